"""What tensors occupy at the most while a block of code runs."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class PeakOfTensors(TorchDispatchMode):
    """`peak`: the most bytes alive at a time in storages made within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = 0
        self._made: dict[int, list[int]] = {}  # by storage: tensors that use it, bytes

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            storage = _storage(tensor)
            if storage not in self._made:
                if storage in given:
                    continue  # a view of what was there before
                size = tensor.untyped_storage().nbytes()
                self._made[storage] = [0, size]
                self._alive += size
                self.peak = max(self.peak, self._alive)
            self._made[storage][0] += 1
            weakref.finalize(tensor, self._gone, storage)
        return result

    def _gone(self, storage: int) -> None:
        users, size = self._made[storage]
        self._made[storage][0] = users - 1
        if users == 1:
            del self._made[storage]
            self._alive -= size


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in pytree.tree_flatten(tree)[0] if isinstance(x, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
