"""All that a memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from .form import Form
from .grid import VECTORS, Size, Tensors
from .schedule import Schedule


@dataclass
class Contents:
    """What is replaced is replaced as a whole.

    Attributes:
        tensors: by name, as in Size.layout; none before anything is stored.
        size: what they are allocated for; None together with the tensors.
        form: in what form they are; None together with the tensors.
        batch_sizes: of the cells of a track, by track; 0: an empty cell. A track that
            is not there has none but empty ones.
        stretches: of the cells of a track of class weights, where these are shared:
            the stretch whose they are; -1: none.
        settings: by track, those that the notes depend on; 0: unknown.
        versions: of tensors when they were last written to from here.
    """

    tensors: Tensors = field(default_factory=dict)
    size: Size | None = None
    form: Form | None = None
    batch_sizes: dict[int, list[int]] = field(default_factory=dict)
    stretches: dict[int, list[int]] = field(default_factory=dict)
    settings: dict[int, int] = field(default_factory=dict)
    versions: int = 0

    def __post_init__(self) -> None:
        self.versions = self.versions_now()

    def versions_now(self) -> int:
        """Goes up with each change of snapshots in place."""
        some = (*VECTORS, "labels") if self.tensors else ()
        some_tensors = (self.tensors[name] for name in some)
        return sum(0 if t.is_inference() else t._version for t in some_tensors)

    def filled(self) -> Iterator[tuple[int, int]]:
        """Track and cell of each snapshot."""
        for track, sizes in self.batch_sizes.items():
            yield from ((track, cell) for cell, size in enumerate(sizes) if size)

    def first_bad(self, schedule: Schedule, place: tuple[int, int]) -> str:
        """The name of a tensor that has NaN or infinity in a filled cell, or ""."""
        track, cell = place
        tensors, sizes = self.tensors, self.batch_sizes[track]
        numbers = {
            "class_weights": (schedule.weights_track(track), cell),
            "embeddings": place,
            "terms": place,
        }
        for name, at in numbers.items():
            if not bool(tensors[name][at].isfinite().all()):
                return name
        met = [other for other, size in enumerate(sizes) if size]
        lse = tensors["lse"][track, cell]
        return "" if bool(lse[:, met].isfinite().all()) else "lse"


def as_tensor(
    table: dict[int, list[int]], num_tracks: int, num_cells: int, empty: int
) -> torch.Tensor:
    """A table of a Contents as (tracks, cells)."""
    with torch.inference_mode(False):
        shape = (num_tracks, num_cells)
        tensor = torch.full(shape, empty, dtype=torch.long, device="cpu")
        for track, values in table.items():
            tensor[track] = torch.tensor(values, dtype=torch.long, device="cpu")
    return tensor
