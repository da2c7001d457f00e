"""Transforms of torch.func, which MemVir refuses."""

from __future__ import annotations

from typing import Any

import torch

_interpreters: Any = getattr(getattr(torch._C, "_functorch"), "get_interpreter_stack")


def refuse_transforms() -> None:
    """Raise RuntimeError within a transform of torch.func.

    Within it, all tensors that are made are its own, and dead when it ends: neither a
    memory may have them, nor class weights that the loss casts or brings to unit length
    (with PML's P2SGradLoss alone, PyTorch ends by a segmentation fault).
    """
    names = [interpreter.key().name.lower() for interpreter in _interpreters() or ()]
    if names:
        raise RuntimeError(
            f"MemVir was called within a transform of torch.func ({', '.join(names)}), "
            "whose tensors cannot be kept: use backward(), torch.autograd.grad or "
            "torch.autograd.functional"
        )
