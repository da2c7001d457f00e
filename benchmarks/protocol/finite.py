"""Trainings that diverged: NaN or infinity, in weights or first in embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class NotFiniteError(ArithmeticError):
    """Embeddings have NaN or infinity: nearest neighbours cannot be told."""


def are_finite(models: Iterable[torch.nn.Module]) -> bool:
    """Whether they have neither NaN nor infinity."""
    return all(
        bool(torch.isfinite(tensor).all())
        for model in models
        for tensor in model.state_dict().values()
    )


def refuse_not_finite(tester: Any) -> None:
    """Have a tester of PML's raise NotFiniteError where embeddings are not finite."""
    compute = tester.compute_all_embeddings

    def checked(*args: Any, **kwargs: Any) -> Any:
        embeddings, labels = compute(*args, **kwargs)
        if not torch.isfinite(embeddings).all():
            raise NotFiniteError("the embeddings have NaN or infinity")
        return embeddings, labels

    tester.compute_all_embeddings = checked
