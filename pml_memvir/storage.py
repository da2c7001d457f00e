"""The tensors of the memory: allocated, grown, moved, and copied ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Size:
    """What a grid of rows x columns cells is allocated for.

    Attributes:
        weights_rows, rows, columns: cells of class weights, and of all else.
        classes: C K, class weights of a snapshot.
        embedding_size: D.
        batch_size: B, embeddings of a snapshot.
        units: numbers that an algorithm keeps beside a snapshot, times columns + 1.
        dtype: of class weights and embeddings.
        exact: dtype of what the algorithm keeps.
    """

    weights_rows: int
    rows: int
    columns: int
    classes: int
    embedding_size: int
    batch_size: int
    units: int
    dtype: torch.dtype
    exact: torch.dtype

    @property
    def nbytes(self) -> int:
        vector = self.embedding_size * self.dtype.itemsize
        cell = self.batch_size * (vector + torch.long.itemsize)
        cell += self.units * (1 + self.columns) * self.exact.itemsize
        weights = self.weights_rows * self.classes * vector
        return self.columns * (weights + self.rows * cell)


@dataclass(frozen=True)
class Grid:
    """All storage: (rows, columns, ...) each, of class weights as many as there are."""

    class_weights: torch.Tensor  # ..., C K, D
    embeddings: torch.Tensor  # ..., B, D
    labels: torch.Tensor  # ..., B
    own: torch.Tensor  # ..., R
    against: torch.Tensor  # ..., R, columns

    @classmethod
    def allocate(
        cls,
        size: Size,
        device: torch.device,
        storage: torch.device,
        contents: Grid | None = None,
    ) -> Grid:
        """Zeros, class weights and embeddings on the storage device.

        Args:
            contents: what is copied to the beginning, of a size that is nowhere larger.
                Tensors of it that have the size already are taken as they are.

        Raises:
            MemoryError: there is not enough; it says how much is needed.
        """
        cells = (size.rows, size.columns)
        weights = (size.weights_rows, size.columns, size.classes, size.embedding_size)
        pin = _is_to_be_pinned(device, storage)
        vectors: dict[str, Any] = {
            "dtype": size.dtype,
            "device": storage,
            "pin_memory": pin,
        }
        exact: dict[str, Any] = {"dtype": size.exact, "device": device}
        wanted: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
            "class_weights": (weights, vectors),
            "embeddings": ((*cells, size.batch_size, size.embedding_size), vectors),
            "labels": (
                (*cells, size.batch_size),
                {"dtype": torch.long, "device": device},
            ),
            "own": ((*cells, size.units), exact),
            "against": ((*cells, size.units, size.columns), exact),
        }
        try:
            return cls(
                **{
                    name: _filled(getattr(contents, name, None), shape, options)
                    for name, (shape, options) in wanted.items()
                }
            )
        except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one
            if "memory" not in str(error).lower():
                raise
            raise MemoryError(
                f"MemVir's memory needs {size.nbytes / 1e9:.1f} GB on {storage}, which "
                "cannot be had. Smaller are memory_dtype=torch.bfloat16, "
                "class_weights_every, snapshot_every, fewer num_steps or a smaller "
                "step_gap; "
                'memory_device="cpu" takes it off a GPU'
            ) from error

    @staticmethod
    def names() -> list[str]:
        return [field.name for field in fields(Grid)]

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in self.names()}

    @property
    def size(self) -> Size:
        weights_rows, columns, classes, embedding_size = self.class_weights.shape
        return Size(
            weights_rows,
            len(self.labels),
            columns,
            classes,
            embedding_size,
            self.labels.shape[2],
            self.own.shape[2],
            self.class_weights.dtype,
            self.own.dtype,
        )

    def is_like(self, size: Size, device: torch.device, storage: torch.device) -> bool:
        """Whether it has this size and lies on these devices."""
        return (
            self.size == size
            and self.labels.device == device
            and self.class_weights.device == storage
            and (
                not _is_to_be_pinned(device, storage) or self.class_weights.is_pinned()
            )
        )

    def without_notes(self, units: int) -> Grid:
        """Its snapshots, and room for other numbers beside them."""
        cells, columns = self.own.shape[:2], self.own.shape[1]
        own = self.own.new_zeros((*cells, units))
        return replace(self, own=own, against=own.new_zeros((*own.shape, columns)))


def _filled(
    contents: torch.Tensor | None, shape: tuple[int, ...], options: dict[str, Any]
) -> torch.Tensor:
    """Zeros behind what there is; the very same tensor if it is like that already."""
    if contents is not None:
        is_like = contents.shape == shape and contents.dtype == options["dtype"]
        pinned = not options.get("pin_memory") or contents.is_pinned()
        if is_like and contents.device == options["device"] and pinned:
            return contents
    tensor = torch.empty(shape, **options)
    if contents is None:
        return tensor.zero_()
    part = tuple(slice(length) for length in contents.shape)
    if contents.shape != shape:
        tensor.zero_()
    tensor[part] = contents.to(tensor)
    return tensor


def _is_to_be_pinned(device: torch.device, storage: torch.device) -> bool:
    """Host memory from which a GPU copies without a detour."""
    return storage.type == "cpu" and device.type == "cuda"


class CopiedAhead:
    """A row whose vectors lie in host memory, on the device when it is needed.

    The row that the next step meets is known a step before. It is copied on a stream of
    its own, behind what has been written to it, while the device computes. One copy is
    there at a time: a step's row is used in its forward call only.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._rows: dict[str, int] = {}
        self._copies: dict[str, torch.Tensor] = {}

    def fetch(
        self, rows: Mapping[str, int], tensors: Mapping[str, torch.Tensor]
    ) -> None:
        """Begin to copy these rows of the tensors, unless they are there."""
        missing = [name for name in rows if self._rows.get(name) != rows[name]]
        if not missing:
            return
        sources = {name: tensors[name][rows[name]] for name in missing}
        for name, source in sources.items():
            copy = self._copies.get(name)
            if copy is None or (copy.shape, copy.dtype) != (source.shape, source.dtype):
                self._copies[name] = torch.empty_like(source, device=self.device)
        self._behind_the_device()
        with torch.cuda.stream(self.stream):
            for name, source in sources.items():
                self._copies[name].copy_(source, non_blocking=self.stream is not None)
                self._in_use_by_stream(self._copies[name])
        self._rows.update(rows)

    def take(
        self, rows: Mapping[str, int], tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """These rows of the tensors on the device."""
        self.fetch(rows, tensors)
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return self._copies

    def write(self, name: str, target: torch.Tensor, values: torch.Tensor) -> None:
        """Copy values from the device to a cell's beginning, and zeros behind them.

        The values may be a view of a parameter, which the optimiser is about to change:
        the device makes a copy first.
        """
        self._rows.pop(name, None)
        whole = values.new_zeros(target.shape, dtype=target.dtype)
        whole[: len(values)] = values
        self._behind_the_device()
        with torch.cuda.stream(self.stream):
            target.copy_(whole, non_blocking=self.stream is not None)
        self._in_use_by_stream(whole)

    def finish(self) -> None:
        """Wait until host memory holds what has been written."""
        if self.stream is not None:
            self.stream.synchronize()

    def _in_use_by_stream(self, tensor: torch.Tensor) -> None:
        """Its storage is not to be used anew before the stream has done with it."""
        if self.stream is not None:
            tensor.record_stream(self.stream)

    def _behind_the_device(self) -> None:
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
