"""A batch as it is given to a loss: checked, and gathered where it is asked for."""

from __future__ import annotations

from typing import Any

import torch

from ..core.snapshots import Batch
from . import processes

NOT_APPLICABLE = "MemVir needs labels and does not support ref_emb"


Given = tuple[Any, Any, Any]  # embeddings, labels and indices_tuple


def taken(
    given: Given,
    ref_emb: Any,
    shape: tuple[int, int],
    may_defer: bool,
    gather_on: torch.device | None,
) -> Batch | None:
    """A batch, checked; labels on a GPU are only clamped if this `may_defer`.

    A label of C or more would silently be one of a virtual class.

    Args:
        shape: C and D.
        gather_on: make one batch of those of all ranks, which talk to each other on
            this device; None: take this rank's.

    Returns:
        None where it is none that MemVir can take: see NOT_APPLICABLE.

    Raises:
        TypeError, ValueError: it does not fit.
    """
    num_classes, embedding_size = shape
    is_applicable = given[1] is not None and ref_emb is None
    if gather_on is not None:
        refused: Exception | None = None  # an error of one rank is an error of all
        try:
            if not is_applicable:
                raise ValueError(NOT_APPLICABLE)
            check(given[0], given[1], embedding_size, may_be_empty=True)
            check_indices(given[2])
        except (TypeError, ValueError) as error:
            refused = error
        given = processes.gather(*given, refused, gather_on)
    elif not is_applicable:
        return None
    embeddings, labels, indices_tuple = given
    check(embeddings, labels, embedding_size)
    whole = labels.long()  # C may be more than their own type can hold
    misfits = None
    # Ranks must raise at the same time.
    if labels.device.type == "cuda" and may_defer and gather_on is None:
        whole, misfits = clamped(whole, num_classes)
    else:
        low, high = whole.aminmax()
        if int(low) < 0 or int(high) >= num_classes:
            numbers = [int(label) for label in labels.tolist()]  # uint16 has no minimum
            raise ValueError(
                f"labels must be 0 to {num_classes - 1}, as the loss has {num_classes} "
                f"classes, got {min(numbers)} to {max(numbers)}"
            )
    whole = whole.to(embeddings.device, non_blocking=True)
    return Batch(embeddings, whole, indices_tuple, misfits)


def clamped(
    labels: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (B,) that are 0 to C-1, and by how much each had to be moved.

    On a GPU, indexing by one out of range would be fatal.
    """
    within = labels.clamp(0, num_classes - 1)
    misfits = torch.empty_like(labels, dtype=torch.float32)
    return within, torch.sub(labels, within, out=misfits)


def check(
    embeddings: Any, labels: Any, embedding_size: int, may_be_empty: bool = False
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
    fits = all(len(shape) == 1 for shape in shapes)
    if not equal or not fits or any(shapes[a] != shapes[b] for a, b in equal):
        raise ValueError(
            "indices_tuple must be triplets (a, p, n) or pairs (a, p, a, n) of 1-D "
            f"tensors of equal length, got shapes {shapes}"
        )
