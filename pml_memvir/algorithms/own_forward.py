"""Which losses must be called themselves, whatever algorithm would suit them."""

from __future__ import annotations

import torch


def needs_own_forward(loss: torch.nn.Module, class_weights: torch.nn.Parameter) -> bool:
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


def _learns(module: torch.nn.Module, class_weights: torch.nn.Parameter) -> bool:
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
