"""The tensors of the memory: what shapes they have, and how they are allocated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .form import ALGORITHMS, ANCHORS
from .schedule import Schedule
from .values import checked_dtype, integer, one_of

VECTORS = ("class_weights", "embeddings")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Size:
    """What the memory of a schedule is allocated for.

    Attributes:
        algorithm: whose notes are kept beside snapshots.
        num_weights: C K, class weights of a snapshot.
        embedding_size: D.
        batch_size: B, the most embeddings of a snapshot.
        dtype: of class weights and embeddings.
        exact: dtype of the notes.
    """

    algorithm: str
    num_weights: int
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
        each = {"class_weights": self.num_weights, "embeddings": self.batch_size}
        anchors = each.get(ANCHORS[self.algorithm] or "", 0)
        weights = (*of_weights, self.num_weights, self.embedding_size)
        yield "class_weights", weights, self.dtype
        embeddings = (*cells, self.batch_size, self.embedding_size)
        yield "embeddings", embeddings, self.dtype
        yield "labels", (*cells, self.batch_size), torch.long
        yield "terms", (*cells, anchors), self.exact
        yield "lse", (*cells, anchors, schedule.num_cells), self.exact

    def nbytes(self, schedule: Schedule) -> int:
        layout = self.layout(schedule)
        return sum(math.prod(shape) * dtype.itemsize for _, shape, dtype in layout)


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
    # Host memory from which a GPU copies without a detour.
    pin = storage.type == "cpu" and device.type == "cuda"
    try:
        tensors = {}
        for name, shape, dtype in size.layout(schedule):
            where = storage if name in VECTORS else device
            options = {"dtype": dtype, "device": where}
            options["pin_memory"] = pin and name in VECTORS
            tensors[name] = _filled(contents.get(name), shape, options)
        return tensors
    except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one
        if "memory" not in str(error).lower():
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
    return Size(
        one_of("algorithm", algorithm, ALGORITHMS),
        num_classes * centers_per_class,
        embedding_size,
        batch_size,
        dtype,
        torch.promote_types(dtype, torch.float32),
    ).nbytes(schedule)
