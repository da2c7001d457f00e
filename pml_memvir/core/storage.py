"""Where the memory's tensors lie, and in what precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from .ahead import CopiedAhead
from .form import Form, unit
from .grid import VECTORS, Contents, Size, Tensors, allocate, wants_pinned
from .schedule import Schedule


class Storage:
    """Holds, places, reads and writes the tensors of a SnapshotMemory (see there)."""

    def __init__(
        self, schedule: Schedule, dtype: torch.dtype | None, device: str
    ) -> None:
        self.schedule = schedule
        self.dtype = dtype
        self.device = device
        self.ahead: CopiedAhead | None = None
        # To read vectors from elsewhere, `finish` first.
        self.contents = Contents.empty(schedule)

    def take_over(self, contents: Contents) -> None:
        """Hold these, which fit, in place of what there was."""
        self.finish()
        self.ahead = None
        self.contents = contents

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        self.take_over(Contents.empty(self.schedule))

    @property
    def nbytes(self) -> int:
        """Bytes of storage allocated for snapshots."""
        size = self.contents.size
        return 0 if size is None else size.nbytes(self.schedule)

    def was_written_to(self) -> bool:
        """Whether somebody else has changed it in place, as through a state dict."""
        return self.contents.versions != self.contents.versions_now()

    def adapt(self, form: Form) -> str:
        """Bring what is stored to a form.

        Returns:
            why that cannot be, and the memory is to be emptied, or "".
        """
        contents, tensors = self.contents, self.contents.tensors
        size = contents.size
        if size is None or size.form == form:
            return ""
        if reason := size.form.refusal(form):
            return reason
        self.finish()
        contents.note_settings[:] = 0
        for name in VECTORS:
            p, tensor = getattr(form, name), tensors[name]
            if p != getattr(size.form, name):
                exact = torch.promote_types(tensor.dtype, torch.float32)
                for vectors in tensor:  # a second time it would change nothing
                    vectors.copy_(unit(vectors.to(exact), p))
                    contents.versions = contents.versions_now()
        device = tensors["labels"].device
        if form.algorithm != size.form.algorithm:  # other notes are kept
            tensors = {name: tensors[name] for name in (*VECTORS, "labels")}
        adapted = replace(contents, tensors=tensors)
        self.take_over(self._placed(adapted, replace(size, form=form), device))
        return ""

    def make_room(
        self, form: Form, class_weights: torch.Tensor, batch_size: int
    ) -> None:
        """Allocate for the first snapshot, grow for a larger one, follow its device.

        Args:
            form: that of the snapshot; what is stored has it already.
            class_weights: (C K, D).
            batch_size: B.

        Raises:
            MemoryError: there is no room; what was stored is still there.
        """
        if (had := self.contents.size) is not None:
            batch_size = max(batch_size, had.batch_size)
        dtypes = self._dtypes(class_weights.dtype)
        size = Size(form, class_weights.shape[1], batch_size, *dtypes)
        self._place(size, class_weights.device)

    def follow(self, device: torch.device, dtype: torch.dtype) -> None:
        """Go where the class weights are, as after loading a checkpoint."""
        if (size := self.contents.size) is not None:
            vectors, exact = self._dtypes(dtype)
            self._place(replace(size, dtype=vectors, exact=exact), device)

    def _dtypes(self, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """Of vectors and of notes, for class weights of a dtype."""
        return self.dtype or dtype, torch.promote_types(dtype, torch.float32)

    def _placed(self, contents: Contents, size: Size, device: torch.device) -> Contents:
        """Contents with tensors of this size, for this device; the same if they are.

        Raises:
            MemoryError: there is no room.
        """
        had, tensors, storage = contents.size, contents.tensors, self._home(device)
        if (
            had == size
            and tensors["labels"].device == device
            and tensors["embeddings"].device == storage
            and (not wants_pinned(storage, device) or tensors["embeddings"].is_pinned())
        ):
            return contents
        self.finish()
        made = allocate(size, self.schedule, device, storage, tensors)
        placed = replace(contents, tensors=made, size=size)
        if had is not None and (had.dtype, had.exact) != (size.dtype, size.exact):
            placed.batch_sizes = placed.batch_sizes.copy()
            placed.stretches = placed.stretches.copy()
            for name, track, cell in placed.bad(self.schedule):
                placed.batch_sizes[track, cell] = 0  # too large for the dtype
                if name == "class_weights" and self.schedule.class_weights_every:
                    placed.spoil(self.schedule.weights_track(track), cell)
        return placed

    def read(self, tracks: Mapping[str, int]) -> Tensors:
        """These tracks of the vectors, on the device that computes."""
        tensors = self.contents.tensors
        if self.ahead is not None:
            return self.ahead.take(tracks, tensors)
        return {name: tensors[name][tracks[name]] for name in VECTORS}

    def write(self, name: str, at: tuple[int, int], values: torch.Tensor) -> None:
        """To the vectors of a cell."""
        target = self.contents.tensors[name][at]
        if self.ahead is not None:
            self.ahead.write(name, target, values)
        else:
            fill(target, values)

    def fetch(self, tracks: Mapping[str, int]) -> None:
        """Begin to copy what will be read."""
        if self.ahead is not None:
            self.ahead.fetch(tracks, self.contents.tensors)

    def finish(self) -> None:
        """Wait until all that was written is there."""
        if self.ahead is not None:
            self.ahead.finish()

    def _place(self, size: Size, device: torch.device) -> None:
        """All tensors in this size, for this device."""
        placed = self._placed(self.contents, size, device)
        if placed is not self.contents:
            self.take_over(placed)
        if self.ahead is None and self.is_elsewhere(self._home(device), device):
            self.ahead = CopiedAhead(device)

    def _home(self, device: torch.device) -> torch.device:
        return device if self.device == "same" else torch.device(self.device)

    @staticmethod
    def is_elsewhere(storage: torch.device, device: torch.device) -> bool:
        return storage != device

    def __getstate__(self) -> dict[str, Any]:
        self.finish()
        return {**self.__dict__, "ahead": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What is sent to a spawned process comes in memory shared with all others.
        contents: Contents = state["contents"]
        with torch.inference_mode(False):  # it is written to later
            own = {name: _own(tensor) for name, tensor in contents.tensors.items()}
        self._restore({**state, "contents": replace(contents, tensors=own)})

    def __deepcopy__(self, memo: dict[int, Any]) -> Storage:
        """Without the copy that __setstate__ makes of tensors on a GPU."""
        new = memo[id(self)] = type(self).__new__(type(self))
        with torch.inference_mode(False):  # it is written to later
            new._restore(copy.deepcopy(self.__getstate__(), memo))
        return new

    def _restore(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        contents = self.contents = replace(self.contents)  # of versions as they are
        if contents.size is not None:
            self._place(contents.size, contents.tensors["labels"].device)


def _own(tensor: torch.Tensor) -> torch.Tensor:
    is_shared = tensor.is_shared()  # type: ignore[no-untyped-call]
    return tensor.clone() if is_shared or tensor.is_inference() else tensor


def fill(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write to the beginning of dimension 0, and zeros behind it.

    Not even a weight of 0 would make what a bad batch has left there harmless.
    """
    if len(values) == len(target):
        target.copy_(values)
    else:
        target[: len(values)].copy_(values)
        target[len(values) :] = 0
