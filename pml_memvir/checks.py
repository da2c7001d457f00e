"""What a user can get wrong, said before anything has changed."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from pytorch_metric_learning.reducers import ClassWeightedReducer

from .schedule import Schedule

MOST_SNAPSHOTS = 10**9  # so many 8-byte integers would be had


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an integer; TypeError if it is none, ValueError if below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    return number


def counter(name: str, value: Any) -> int:
    """`value` as an integer that can go on counting in 64 bits."""
    number = integer(name, value, least=0)
    if number > 2**62:
        raise ValueError(f"{name} must be <= 2**62, got {number}")
    return number


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`; ValueError unless it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return str(value)


def schedule(
    num_steps: Any,
    step_gap: Any,
    accumulation_steps: Any,
    snapshot_every: Any,
    class_weights_every: Any = None,
) -> Schedule:
    """Their schedule; ValueError if one is out of range or they do not go together."""
    if class_weights_every is not None:
        class_weights_every = integer("class_weights_every", class_weights_every, 1)
    made = Schedule(
        integer("num_steps", num_steps, least=1),
        integer("step_gap", step_gap, least=0),
        integer("accumulation_steps", accumulation_steps, least=1),
        integer("snapshot_every", snapshot_every, least=1),
        class_weights_every,
    )
    if (made.step_gap + 1) % made.snapshot_every:
        raise ValueError(
            f"snapshot_every must divide step_gap + 1 = {made.step_gap + 1}, "
            f"got {made.snapshot_every}"
        )
    every = made.class_weights_every
    if every and ((made.step_gap + 1) % every or every % made.snapshot_every):
        raise ValueError(
            f"class_weights_every must divide step_gap + 1 = {made.step_gap + 1} and "
            f"be a multiple of snapshot_every = {made.snapshot_every}, got {every}"
        )
    if made.num_rows * made.num_columns > MOST_SNAPSHOTS:
        raise ValueError(
            f"num_steps = {made.num_steps} and step_gap = {made.step_gap} ask for more "
            f"than {MOST_SNAPSHOTS} snapshots: choose smaller ones, or snapshot_every"
        )
    return made


def memory_dtype(value: Any) -> torch.dtype | None:
    """`value`; ValueError unless it is None or a dtype that the memory can have."""
    choices = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    if value is not None and value not in choices:
        raise ValueError(
            f"memory_dtype must be None or one of {choices}, got {value!r}"
        )
    return value  # type: ignore[no-any-return]


def check_reducer(loss: torch.nn.Module) -> None:
    """Refuse ClassWeightedReducer under ProxyAnchorLoss, whose losses are no rows."""
    reducer = getattr(loss, "reducer", None)
    if isinstance(loss, ProxyAnchorLoss) and isinstance(reducer, torch.nn.Module):
        if any(isinstance(m, ClassWeightedReducer) for m in reducer.modules()):
            raise ValueError(
                "ClassWeightedReducer does not weigh classes under ProxyAnchorLoss, "
                "whose losses are one a class, not one a row: use another reducer"
            )


def check_batch(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    embedding_size: int,
    may_be_empty: bool = False,
) -> None:
    """Raise unless embeddings are (B, D), of floats, and labels (B,), of integers."""
    for name, value in (("embeddings", embeddings), ("labels", labels)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not embeddings.is_floating_point():
        raise TypeError(f"embeddings must be floating point, got {embeddings.dtype}")
    if embeddings.ndim != 2 or embeddings.shape[1] != embedding_size:
        raise ValueError(
            f"embeddings must have shape (batch_size, {embedding_size}), "
            f"got {tuple(embeddings.shape)}"
        )
    if len(embeddings) == 0 and not may_be_empty:
        raise ValueError("embeddings must hold at least one row, got an empty batch")
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(embeddings)},), one for each row of "
            f"embeddings, got {tuple(labels.shape)}"
        )


def check_indices(indices_tuple: Any) -> None:
    """Raise unless it is None or a tuple of index tensors, as PML's miners give it."""
    if indices_tuple is None:
        return
    if not isinstance(indices_tuple, (tuple, list)):
        found = type(indices_tuple).__name__
        raise TypeError(f"indices_tuple must be a tuple of tensors, got {found}")
    kinds = (torch.long, torch.int)
    for indices in indices_tuple:
        if not isinstance(indices, torch.Tensor) or indices.dtype not in kinds:
            found = getattr(indices, "dtype", type(indices).__name__)
            raise TypeError(
                f"indices_tuple must have tensors of int64 or int32, got {found}"
            )
        if indices.numel() and int(indices.min()) < 0:
            raise ValueError(f"indices must be >= 0, got {int(indices.min())}")
    shapes = [tuple(indices.shape) for indices in indices_tuple]
    equal = {3: ((0, 1), (0, 2)), 4: ((0, 1), (2, 3))}.get(len(shapes), ())
    fits = (
        bool(equal)
        and all(len(shape) == 1 for shape in shapes)
        and all(shapes[a] == shapes[b] for a, b in equal)
    )
    if not fits:
        raise ValueError(
            "indices_tuple must be triplets (a, p, n) or pairs (a, p, a, n) of 1-D "
            f"tensors of equal length, got shapes {shapes}"
        )


def labels_in_range(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Whether all labels are 0 to C-1, as a tensor: a device is not waited for."""
    labels = labels.long()  # C may be more than their own type can hold
    return ((labels >= 0) & (labels < num_classes)).all()


def label_error(labels: torch.Tensor, num_classes: int) -> ValueError:
    """The error for labels outside 0 to C-1."""
    numbers = [int(label) for label in labels.tolist()]  # uint16 has no minimum
    return ValueError(
        f"labels must be 0 to {num_classes - 1}, as the loss has {num_classes} "
        f"classes, got {min(numbers)} to {max(numbers)}"
    )


def check_settings(theirs: Any, settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless `theirs`, of a checkpoint, are these settings."""
    if not isinstance(theirs, dict):
        raise ValueError(f"settings must be a dict, got {type(theirs).__name__}")
    differences = [
        f"expected {name}={value}, got {theirs.get(name)}"
        for name, value in settings.items()
        if type(theirs.get(name)) is not type(value) or theirs.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"the checkpoint is of another MemVir: {', '.join(differences)}. To take "
            "its class weights only, load what begins with 'loss.' into .loss"
        )
