"""A track whose vectors lie in host memory, on the device when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from .grid import VECTORS, Tensors


class CopiedAhead:
    """Copies of the vectors of one track.

    The track that the next step meets is known a step before. It is copied on a stream
    of its own, behind what has been written to it, while the device computes. One copy
    is there at a time: a step's track is used in its forward call only.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._tracks: dict[str, int] = {}
        self._copies: Tensors = {}

    def fetch(self, tracks: Mapping[str, int], tensors: Tensors) -> None:
        """Begin to copy these tracks of the vectors, unless they are there."""
        missing = [n for n in VECTORS if self._tracks.get(n) != tracks[n]]
        if not missing:
            return
        sources = {name: tensors[name][tracks[name]] for name in missing}
        for name, source in sources.items():
            copy = self._copies.get(name)
            if copy is None or (copy.shape, copy.dtype) != (source.shape, source.dtype):
                self._copies[name] = torch.empty_like(source, device=self.device)
        self._behind_the_device()
        with self._on_stream():
            for name, source in sources.items():
                self._copies[name].copy_(source, non_blocking=self.stream is not None)
                self._in_use_by_stream(self._copies[name])
        self._tracks.update(tracks)

    def take(self, tracks: Mapping[str, int], tensors: Tensors) -> Tensors:
        """These tracks of the vectors on the device."""
        self.fetch(tracks, tensors)
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return self._copies

    def write(self, name: str, target: torch.Tensor, values: torch.Tensor) -> None:
        """Copy values from the device to a cell's beginning, and zeros behind them.

        The values may be a view of a parameter, which the optimiser is about to change:
        the device makes a copy first.
        """
        self._tracks.pop(name, None)
        whole = values.new_zeros(target.shape, dtype=target.dtype)
        whole[: len(values)] = values
        self._behind_the_device()
        with self._on_stream():
            target.copy_(whole, non_blocking=self.stream is not None)
        self._in_use_by_stream(whole)

    def finish(self) -> None:
        """Wait until host memory holds what has been written."""
        if self.stream is not None:
            self.stream.synchronize()

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def _in_use_by_stream(self, tensor: torch.Tensor) -> None:
        """Its storage is not to be used anew before the stream has done with it."""
        if self.stream is not None:
            tensor.record_stream(self.stream)

    def _behind_the_device(self) -> None:
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
