"""Where the memory's tensors lie, and in what precision."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from .ahead import CopiedAhead
from .contents import Contents
from .form import Form, unit
from .grid import VECTORS, Size, Tensors, allocate
from .schedule import Schedule


class Storage:
    """Holds, places, reads and writes the tensors of a memory.

    Args:
        schedule: of the memory.
        dtype: of embeddings and class weights; default that of the class weights.
        device: where those lie: "same" as they come, or "cpu".
    """

    def __init__(
        self, schedule: Schedule, dtype: torch.dtype | None, device: str
    ) -> None:
        self.schedule = schedule
        self.dtype = dtype
        self.device = device
        self.ahead: CopiedAhead | None = None
        self._contents = Contents()

    @property
    def contents(self) -> Contents:
        """All it holds. To read vectors from elsewhere, `finish` first."""
        return self._contents

    @contents.setter
    def contents(self, contents: Contents) -> None:
        """Take over others, which fit."""
        self.finish()
        self.ahead = None
        self._contents = contents

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        self.contents = Contents()

    @property
    def nbytes(self) -> int:
        """Bytes of storage allocated for snapshots."""
        size = self._contents.size
        return 0 if size is None else size.nbytes(self.schedule)

    def holds(self, class_weights: torch.Tensor) -> bool:
        """Whether snapshots with class weights of this shape fit in."""
        size = self._contents.size
        shape = () if size is None else (size.num_weights, size.embedding_size)
        return size is None or class_weights.shape == shape

    def was_written_to(self) -> bool:
        """Whether somebody else has changed it in place, as through a state dict."""
        return self._contents.versions != self._contents.versions_now()

    def adapt(self, form: Form) -> str:
        """Bring what is stored to a form.

        Returns:
            why that cannot be, and the memory is to be emptied, or "".
        """
        contents = self._contents
        before, size = contents.form, contents.size
        if before is None or size is None or before == form:
            return ""
        if reason := before.refusal(form):
            return reason
        self.finish()
        contents.settings.clear()
        for name in VECTORS:
            p, tensor = getattr(form, name), contents.tensors[name]
            if p != getattr(before, name):
                exact = torch.promote_types(tensor.dtype, torch.float32)
                for vectors in tensor:  # a second time it would change nothing
                    vectors.copy_(unit(vectors.to(exact), p))
        adapted = replace(contents, form=form)
        if form.algorithm != before.algorithm:  # other notes are kept
            names = (*VECTORS, "labels")
            adapted.tensors = {name: contents.tensors[name] for name in names}
            adapted.size, size = None, replace(size, algorithm=form.algorithm)
            device = adapted.tensors["labels"].device
            adapted = self._placed(adapted, size, device, form)
        self.contents = adapted
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
        had = self._contents.size
        num_weights, embedding_size = class_weights.shape
        size = Size(
            form.algorithm,
            num_weights,
            embedding_size,
            max(batch_size, had.batch_size if had else 0),
            *self._dtypes(class_weights.dtype),
        )
        self._place(size, class_weights.device, form)

    def follow(self, device: torch.device, dtype: torch.dtype) -> None:
        """Go where the class weights are, as after loading a checkpoint."""
        size, form = self._contents.size, self._contents.form
        if size is not None and form is not None:
            vectors, exact = self._dtypes(dtype)
            self._place(replace(size, dtype=vectors, exact=exact), device, form)

    def _dtypes(self, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """Of vectors and of notes, for class weights of a dtype."""
        return self.dtype or dtype, torch.promote_types(dtype, torch.float32)

    def _placed(
        self, contents: Contents, size: Size, device: torch.device, form: Form
    ) -> Contents:
        """Contents with tensors of this size, for this device; the same if they are.

        Raises:
            MemoryError: there is no room.
        """
        had, tensors, storage = contents.size, contents.tensors, self._home(device)
        if (
            had == size
            and tensors["labels"].device == device
            and tensors["embeddings"].device == storage
        ):
            return contents
        self.finish()
        made = allocate(size, self.schedule, device, storage, tensors)
        placed = replace(contents, tensors=made, size=size, form=form)
        if had is not None and (had.dtype, had.exact) != (size.dtype, size.exact):
            placed.batch_sizes = copy.deepcopy(placed.batch_sizes)
            for track, cell in list(placed.filled()):
                if placed.first_bad(self.schedule, (track, cell)):
                    placed.batch_sizes[track][cell] = 0  # too large for the dtype
        return placed

    def _prepare(self, device: torch.device) -> None:
        """Copy ahead for this device, if the vectors lie elsewhere."""
        if self.ahead is None and self.is_elsewhere(self._home(device), device):
            self.ahead = CopiedAhead(device)

    def read(self, tracks: Mapping[str, int]) -> Tensors:
        """These tracks of the vectors, on the device that computes."""
        tensors = self._contents.tensors
        if self.ahead is not None:
            return self.ahead.take(tracks, tensors)
        return {name: tensors[name][tracks[name]] for name in VECTORS}

    def write(self, name: str, at: tuple[int, int], values: torch.Tensor) -> None:
        """To the vectors of a cell."""
        target = self._contents.tensors[name][at]
        if self.ahead is not None:
            self.ahead.write(name, target, values)
        else:
            fill(target, values)

    def fetch(self, tracks: Mapping[str, int]) -> None:
        """Begin to copy what will be read."""
        if self.ahead is not None:
            self.ahead.fetch(tracks, self._contents.tensors)

    def finish(self) -> None:
        """Wait until all that was written is there."""
        if self.ahead is not None:
            self.ahead.finish()

    def _place(self, size: Size, device: torch.device, form: Form) -> None:
        """All tensors in this size, for this device."""
        placed = self._placed(self._contents, size, device, form)
        if placed is not self._contents:
            self.contents = placed
        self._prepare(device)

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
        contents: Contents = state["_contents"]
        with torch.inference_mode(False):  # it is written to later
            own = {name: _own(tensor) for name, tensor in contents.tensors.items()}
        self._restore({**state, "_contents": replace(contents, tensors=own)})

    def __deepcopy__(self, memo: dict[int, Any]) -> Storage:
        """Without the copy that __setstate__ makes of tensors on a GPU."""
        new = memo[id(self)] = type(self).__new__(type(self))
        with torch.inference_mode(False):  # it is written to later
            new._restore(copy.deepcopy(self.__getstate__(), memo))
        return new

    def _restore(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        contents = self._contents = replace(self._contents)  # of versions as they are
        if contents.size is not None and contents.form is not None:
            self._place(contents.size, contents.tensors["labels"].device, contents.form)


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
