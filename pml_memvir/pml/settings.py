"""A loss's settings: whether they have changed, and what logits depend on."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy
import torch

# Parts of a loss that its logits do not depend on.
_NOT_IN_LOGITS = ("reducer", "embedding_regularizer", "weight_regularizer")


class Seen:
    """A loss and its parts as they are now, to be asked whether they still are.

    It costs some microseconds: dicts are compared, in which what is the same object is
    equal.
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        self.modules = list(loss.modules())
        some = (x for m in self.modules for x in (vars(m), *vars(m).values()))
        self.dicts = [x for x in some if isinstance(x, dict)]
        self.copies = [dict(x) for x in self.dicts]
        values = [value for x in self.dicts for value in x.values()]
        self.tensors = [value for value in values if isinstance(value, torch.Tensor)]
        self.facts = self._facts()
        # What is in a tensor of one number may change behind it.
        self.is_known = not any(
            isinstance(value, (torch.Tensor, numpy.ndarray))
            and not isinstance(value, torch.nn.Parameter)
            and math.prod(value.shape) == 1
            for value in values
        )

    def is_still(self, loss: torch.nn.Module) -> bool:
        """Whether this is the loss, and nothing in it has changed, for sure."""
        try:
            return (
                self.is_known
                and loss is self.modules[0]
                and self.dicts == self.copies
                and self._facts() == self.facts
            )
        except (RuntimeError, ValueError):  # other tensors, which are not compared
            return False

    def _facts(self) -> list[Any]:
        """What may change of what stays the same object."""
        of_tensors = ((t.shape, t.requires_grad) for t in self.tensors)
        return [*map(type, self.modules), *of_tensors]


def number_of(loss: torch.nn.Module, *numbers: Any) -> int:
    """A number for all settings that logits depend on; never 0.

    Of the loss and its parts every plain attribute and the class count, so that none
    can be forgotten: to make kept numbers anew once too often does no harm.

    Args:
        numbers: settings that are no plain attributes, as those in tensors.
    """
    text = repr((_plain(loss), numbers)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def _plain(module: torch.nn.Module) -> tuple[Any, ...]:
    plain = [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str)) and name != "training"
    ]
    parts = [
        (name, _plain(part))
        for name, part in module._modules.items()
        if part is not None and name not in _NOT_IN_LOGITS
    ]
    return type(module).__module__, type(module).__qualname__, (*plain, *parts)


def needs_own_forward(loss: torch.nn.Module, class_weights: torch.Tensor) -> bool:
    """Whether a loss of a known class does more than its class says.

    Somebody listens in on it or on a part of it (hooks, statistics of PML's modules),
    has replaced a method, or learns more than the class weights (a scale, a margin,
    weights of a reducer): the fast algorithms would not see it.
    """
    return any(
        _is_watched(module) or _is_changed(module) or _learns(module, class_weights)
        for module in loss.modules()
    )


def _is_watched(module: torch.nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or getattr(module, "collect_stats", False)
    )


def _is_changed(module: torch.nn.Module) -> bool:
    """Whether a method is hidden by an attribute of the instance."""
    return any(
        callable(value) and callable(getattr(type(module), name, None))
        for name, value in vars(module).items()
    )


def _learns(module: torch.nn.Module, class_weights: torch.Tensor) -> bool:
    """Whether anything in it but the class weights asks for a gradient."""
    values = (
        *module._parameters.values(),
        *module._buffers.values(),
        *vars(module).values(),
    )
    return any(
        isinstance(value, torch.Tensor)
        and value.requires_grad
        and value is not class_weights
        for value in values
    )
