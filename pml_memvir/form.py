"""In what form the memory holds snapshots, and what else its numbers depend on."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

# Parts of a loss that its logits do not depend on.
_NOT_IN_LOGITS = ("reducer", "embedding_regularizer", "weight_regularizer")


@dataclass(frozen=True)
class Form:
    """How snapshots lie in the memory.

    Attributes:
        algorithm: whose numbers are kept beside them.
        num_classes, num_centers: C and K.
        embeddings, class_weights: p of the norm by which they have unit length; None:
            as they came.
    """

    algorithm: str
    num_classes: int
    num_centers: int
    embeddings: float | None = None
    class_weights: float | None = None

    def refusal(self, other: Form) -> str:
        """Why what is in this form cannot be brought to another one, or ""."""
        mine = self.num_classes, self.num_centers
        if mine != (other.num_classes, other.num_centers):
            return (
                "it holds {} classes of {} centres, the loss now has {} of {}".format(
                    *mine, other.num_classes, other.num_centers
                )
            )
        for name in ("embeddings", "class_weights"):
            if getattr(other, name) is None and getattr(self, name) is not None:
                return (
                    f"it holds {name.replace('_', ' ')} at unit length "
                    f"({self.algorithm}), and the loss now needs them as they were "
                    f"({other.algorithm})"
                )
        return ""


def unit(vectors: torch.Tensor, p: float | None) -> torch.Tensor:
    """Vectors (..., D) at unit length by the p-norm; with None as they are."""
    return vectors if p is None else normalize(vectors, p=p, dim=-1)


def key_of(loss: torch.nn.Module, *numbers: float) -> int:
    """A number for all settings that logits depend on; never 0.

    Of the loss and its parts every plain attribute and the class count, so that none
    can be forgotten: to make kept numbers anew once too often does no harm.

    Args:
        numbers: settings that are no plain attributes, as those in tensors.
    """
    return _hashed((_settings(loss), numbers))


def _settings(module: torch.nn.Module) -> tuple[Any, ...]:
    plain = [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and name != "training"
    ]
    parts = [
        (name, _settings(part))
        for name, part in module._modules.items()
        if part is not None and name not in _NOT_IN_LOGITS
    ]
    return type(module).__module__, type(module).__qualname__, (*plain, *parts)


@functools.lru_cache(maxsize=64)
def _hashed(settings: tuple[Any, ...]) -> int:
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
