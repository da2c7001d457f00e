"""The memory in checkpoints: written as it is, believed only after it is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .memory import SnapshotMemory
from .snapshots import Key
from .storage import Grid


def save(memory: SnapshotMemory) -> dict[str, Any]:
    """Everything there is: tensors by name, and the keys of the rows."""
    return {
        "batch_sizes": memory.batch_sizes.clone(),  # some loaders write to it
        "stretches": memory.stretches.clone(),
        "keys": list(memory.keys),
        **memory.tensors(),
    }


@dataclass
class Contents:
    """What a memory holds, checked, in tensors of its own."""

    grid: Grid | None
    batch_sizes: torch.Tensor
    stretches: torch.Tensor
    keys: list[Key]

    def give_to(self, memory: SnapshotMemory) -> None:
        memory.replace(self.grid, self.batch_sizes, self.stretches, self.keys)


def load(state: Any, memory: SnapshotMemory, num_classes: int) -> Contents:
    """A copy of what `save` gave, if it fits the memory, which is left as it is.

    Args:
        num_classes: C, which labels are below.

    Raises:
        ValueError: something is missing, or of a wrong type, shape or value.
    """
    shape = (memory.schedule.num_rows, memory.schedule.num_columns)
    if not isinstance(state, dict):
        raise ValueError(f"the memory must be a dict, got {type(state).__name__}")
    sizes = _integers(state, "batch_sizes", shape)
    stretches = memory.no_stretches()
    if memory.schedule.shares_class_weights:
        stretches = _integers(state, "stretches", tuple(stretches.shape))
    keys = _keys(state.get("keys"), shape[0])
    names = Grid.names()
    found = [name for name in names if name in state]
    if found and found != names or not found and sizes.any():
        raise ValueError(f"the memory's state must hold {names}, got {list(state)}")
    with torch.inference_mode(False):  # tensors that can be written to later
        sizes = sizes.to("cpu", torch.long, copy=True)
        stretches = stretches.to("cpu", torch.long, copy=True)
        if not found:
            return Contents(None, sizes, memory.no_stretches(), keys)
        given = {name: state[name] for name in names}
        _check_types(given)
        if not _fit(given, sizes, stretches):
            raise ValueError(
                "the memory's tensors do not fit together: "
                + ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items())
            )
        grid = Grid(**{name: t.detach().clone() for name, t in given.items()})
    rows = [memory.schedule.weights_row(row) for row in range(shape[0])]
    _check_values(grid, sizes, rows, num_classes)
    return Contents(grid, sizes, stretches, keys)


def _integers(state: dict[str, Any], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor of the state, of integers of this shape."""
    tensor = state.get(name)
    if not isinstance(tensor, torch.Tensor) or tensor.shape != shape:
        found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else tensor
        raise ValueError(f"the memory's {name} must have shape {shape}, got {found}")
    if tensor.is_floating_point() or tensor.is_complex() or not _has_data(tensor):
        raise ValueError(
            f"{name} must be integers, got {tensor.dtype}, {tensor.layout}"
        )
    return tensor


def _keys(keys: Any, length: int) -> list[Key]:
    if not isinstance(keys, (list, tuple)) or len(keys) != length:
        found = len(keys) if isinstance(keys, (list, tuple)) else repr(keys)
        raise ValueError(f"the memory must have {length} keys, got {found}")
    try:
        return [tuple(float(x) for x in key) for key in keys]
    except (TypeError, ValueError):
        raise ValueError(f"the memory's keys must be numbers, got {keys!r}") from None


def _check_types(given: dict[str, Any]) -> None:
    for name, tensor in given.items():
        if not isinstance(tensor, torch.Tensor):
            found = type(tensor).__name__
        elif not _has_data(tensor):
            found = f"one without data or of layout {tensor.layout}"
        elif (tensor.dtype == torch.long) != (name == "labels") or not (
            name == "labels" or tensor.is_floating_point()
        ):
            found = str(tensor.dtype)
        else:
            continue
        kind = "int64" if name == "labels" else "floats"
        raise ValueError(f"the memory's {name} must be a tensor of {kind}, got {found}")


def _has_data(tensor: torch.Tensor) -> bool:
    return not tensor.is_meta and tensor.layout == torch.strided


def _fit(given: dict[str, Any], sizes: torch.Tensor, stretches: torch.Tensor) -> bool:
    """Whether tensors have the shapes of one grid."""
    shape = sizes.shape
    weights, embeddings = given["class_weights"], given["embeddings"]
    labels = given["labels"]
    return (
        weights.shape[:2] == stretches.shape
        and all(given[name].shape[:2] == shape for name in _OF_A_ROW)
        and (weights.ndim, embeddings.ndim, labels.ndim) == (4, 4, 3)
        and weights.shape[3] == embeddings.shape[3]
        and weights.dtype == embeddings.dtype
        and embeddings.shape[2] == labels.shape[2]
        and given["own"].ndim == 3
        and given["own"].dtype == given["against"].dtype
        and given["against"].shape == (*given["own"].shape, shape[1])
        and int(sizes.max()) <= labels.shape[2]
        and int(sizes.min()) >= 0
    )


_OF_A_ROW = tuple(name for name in Grid.names() if name != "class_weights")


def _check_values(
    grid: Grid, sizes: torch.Tensor, weights_rows: list[int], num_classes: int
) -> None:
    """Labels are classes and numbers are finite, in all cells that hold a snapshot."""
    for row, column in sizes.nonzero().tolist():
        cell = (row, column)
        size = int(sizes[row, column])
        columns = sizes[row].nonzero().flatten().to(grid.against.device)
        labels = grid.labels[cell][:size]
        if not bool(((labels >= 0) & (labels < num_classes)).all()):
            raise ValueError(f"the memory's labels must be 0 to {num_classes - 1}")
        numbers: dict[str, Callable[[], torch.Tensor]] = {
            "class_weights": lambda: grid.class_weights[weights_rows[row], column],
            "embeddings": lambda: grid.embeddings[cell],
            "own": lambda: grid.own[cell],
            "against": lambda: grid.against[cell].index_select(1, columns),
        }
        for name, get in numbers.items():
            if not bool(get().isfinite().all()):
                raise ValueError(f"the memory's {name} have NaN or infinity")
