"""All that a memory holds: in what shapes, and how it is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from .form import ALGORITHMS, ANCHORS, Form
from .schedule import Schedule
from .values import checked_dtype, integer, one_of

VECTORS = ("class_weights", "embeddings")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Size:
    """What the memory of a schedule is allocated for.

    Attributes:
        form: of what is stored.
        embedding_size: D.
        batch_size: B, the most embeddings of a snapshot.
        dtype: of class weights and embeddings.
        exact: dtype of the notes.
    """

    form: Form
    embedding_size: int
    batch_size: int
    dtype: torch.dtype
    exact: torch.dtype

    def layout(
        self, schedule: Schedule
    ) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
        """Name, shape and dtype of each tensor: (tracks, cells, ...) all of them."""
        of_weights = schedule.num_weights_tracks, schedule.num_cells
        cells = schedule.num_tracks, schedule.num_cells
        num_weights = self.form.num_classes * self.form.num_centers
        each = {"class_weights": num_weights, "embeddings": self.batch_size}
        anchors = each.get(ANCHORS[self.form.algorithm] or "", 0)
        weights = (*of_weights, num_weights, self.embedding_size)
        yield "class_weights", weights, self.dtype
        embeddings = (*cells, self.batch_size, self.embedding_size)
        yield "embeddings", embeddings, self.dtype
        yield "labels", (*cells, self.batch_size), torch.long
        yield "terms", (*cells, anchors), self.exact
        yield "lse", (*cells, anchors, schedule.num_cells), self.exact

    def nbytes(self, schedule: Schedule) -> int:
        layout = self.layout(schedule)
        return sum(math.prod(shape) * dtype.itemsize for _, shape, dtype in layout)


@dataclass
class Contents:
    """What is replaced is replaced as a whole.

    Attributes:
        batch_sizes: (tracks, cells); 0: an empty cell.
        stretches: (tracks of class weights, cells), where these are shared: the stretch
            whose they are, or `spoilt` of it; -1: none.
        note_settings: (tracks,), those that the notes depend on; 0: unknown.
        tensors: by name, as in Size.layout; none before anything is stored.
        size: what they are allocated for; None together with the tensors.
        versions: of tensors when they were last written to from here.
    """

    batch_sizes: NDArray[numpy.int64]
    stretches: NDArray[numpy.int64]
    note_settings: NDArray[numpy.int64]
    tensors: Tensors = field(default_factory=dict)
    size: Size | None = None
    versions: int = 0

    def __post_init__(self) -> None:
        self.versions = self.versions_now()

    @staticmethod
    def empty(schedule: Schedule) -> Contents:
        tracks, cells = schedule.num_tracks, schedule.num_cells
        shape = schedule.num_weights_tracks, cells
        none = numpy.broadcast_to(numpy.int64(-1), shape)  # which takes no memory
        return Contents(
            numpy.zeros((tracks, cells), numpy.int64),
            none if schedule.class_weights_every is None else none.copy(),
            numpy.zeros(tracks, numpy.int64),
        )

    def versions_now(self) -> int:
        """Goes up with each change of snapshots in place."""
        some = (*VECTORS, "labels") if self.tensors else ()
        some_tensors = (self.tensors[name] for name in some)
        return sum(0 if t.is_inference() else t._version for t in some_tensors)

    def spoil(self, weights_track: int, cell: int) -> None:
        """Mark a stretch, whose class weights have NaN or infinity, as such."""
        stretch = self.stretches[weights_track, cell]
        self.stretches[weights_track, cell] = min(stretch, spoilt(stretch))

    def filled(self) -> list[list[int]]:
        """Track and cell of each snapshot."""
        return numpy.argwhere(self.batch_sizes).tolist()

    def bad(self, schedule: Schedule) -> Iterator[tuple[str, int, int]]:
        """Each snapshot that has NaN or infinity: name of a tensor, track and cell.

        Cells may be emptied meanwhile: what others keep of them does not count then.
        """
        tensors = self.tensors

        @cache  # as many snapshots may share them
        def has_good_weights(weights_track: int, cell: int) -> bool:
            return bool(tensors["class_weights"][weights_track, cell].isfinite().all())

        for track, cell in self.filled():
            if not has_good_weights(schedule.weights_track(track), cell):
                yield "class_weights", track, cell
                continue
            met = self.batch_sizes[track].nonzero()[0].tolist()
            numbers = {
                "embeddings": tensors["embeddings"][track, cell],
                "terms": tensors["terms"][track, cell],
                "lse": tensors["lse"][track, cell][:, met],
            }
            for name, of_cell in numbers.items():
                if not of_cell.isfinite().all():
                    yield name, track, cell
                    break


def spoilt(stretch: int) -> int:
    """What marks a stretch whose class weights have NaN or infinity."""
    return -2 - stretch


def wants_pinned(storage: torch.device, device: torch.device) -> bool:
    """Whether it is host memory from which a GPU is to copy without a detour."""
    return storage.type == "cpu" and device.type == "cuda"


def allocate(
    size: Size,
    schedule: Schedule,
    device: torch.device,
    storage: torch.device,
    contents: Mapping[str, torch.Tensor],
) -> Tensors:
    """Zeros, class weights and embeddings on the storage device.

    Args:
        contents: what is copied to the beginning, of a size that is nowhere larger.
            Tensors of it that are as they should be are taken as they are.

    Raises:
        MemoryError: there is not enough; it says how much is needed.
    """
    pin = wants_pinned(storage, device)
    try:
        tensors = {}
        for name, shape, dtype in size.layout(schedule):
            where = storage if name in VECTORS else device
            options = {"dtype": dtype, "device": where}
            options["pin_memory"] = pin and name in VECTORS
            tensors[name] = _filled(contents.get(name), shape, options)
        return tensors
    except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one
        said = str(error).lower()
        if "memory" not in said or "memory access" in said:  # of an earlier kernel
            raise
        raise MemoryError(
            f"MemVir's memory needs {size.nbytes(schedule) / 1e9:.1f} GB on {storage}, "
            "which cannot be had. Smaller are memory_dtype=torch.bfloat16, "
            "class_weights_every, snapshot_every, fewer num_steps or a smaller "
            'step_gap; memory_device="cpu" takes it off a GPU'
        ) from error


def _filled(
    contents: torch.Tensor | None, shape: tuple[int, ...], options: dict[str, Any]
) -> torch.Tensor:
    """Zeros behind what there is; the very same tensor if it is like that already."""
    if contents is not None:
        is_like = contents.shape == shape and contents.dtype == options["dtype"]
        pinned = not options["pin_memory"] or contents.is_pinned()
        if is_like and contents.device == options["device"] and pinned:
            return contents
    with torch.inference_mode(False):  # it is written to later
        tensor = torch.empty(shape, **options)
        if contents is None:
            return tensor.zero_()
        part = tuple(slice(length) for length in contents.shape)
        if contents.shape != shape:
            tensor.zero_()
        tensor[part] = contents.to(tensor)
    return tensor


def estimate_nbytes(
    num_steps: int,
    step_gap: int,
    num_classes: int,
    embedding_size: int,
    batch_size: int,
    memory_dtype: torch.dtype = torch.float32,
    *,
    centers_per_class: int = 1,
    accumulation_steps: int = 1,
    snapshot_every: int = 1,
    class_weights_every: int | None = None,
    algorithm: str = "row_softmax",
) -> int:
    """Bytes that the memory will occupy, what is kept beside snapshots included.

    Args:
        num_steps: N.
        step_gap: M.
        num_classes: C.
        embedding_size: D.
        batch_size: B of the largest forward call; of all ranks, if gathered.
        memory_dtype: of embeddings and class weights. Other numbers are counted as
            float32, or float64 where this is; in truth they follow the class
            weights' own dtype.
        centers_per_class: K.
        accumulation_steps: as for MemVir.
        snapshot_every: as for MemVir.
        class_weights_every: as for MemVir.
        algorithm: what `algorithm_used` says: "row_softmax", "proxy_anchor" or
            "concatenation".

    Raises:
        ValueError: a number is out of range, or a name not one of these.
        TypeError: a number is no integer.
    """
    schedule = Schedule(
        num_steps, step_gap, accumulation_steps, snapshot_every, class_weights_every
    )
    for name, value in {
        "num_classes": num_classes,
        "centers_per_class": centers_per_class,
        "embedding_size": embedding_size,
        "batch_size": batch_size,
    }.items():
        integer(name, value, least=1)
    dtype = checked_dtype(memory_dtype) or torch.float32
    exact = torch.promote_types(dtype, torch.float32)
    algorithm = one_of("algorithm", algorithm, ALGORITHMS)
    form = Form(algorithm, num_classes, centers_per_class)
    return Size(form, embedding_size, batch_size, dtype, exact).nbytes(schedule)
