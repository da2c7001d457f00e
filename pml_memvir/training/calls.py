"""Ways of being called: those that MemVir cannot serve, and one after the other."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_innermost: Any = getattr(getattr(torch._C, "_functorch"), "peek_interpreter_stack")

# Compiled code calls the loss as it is: its steps differ in what they meet.
is_compiling: Any = getattr(
    torch.compiler, "is_compiling", getattr(torch._utils, "is_compiling", None)
)  # the latter for torch < 2.3
disable_dynamo: Any = getattr(torch, "_disable_dynamo")  # does not import it yet


Method = TypeVar("Method", bound=Callable[..., Any])


class Turn:
    """A lock for threads that take turns; a copy has one of its own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Turn, ()


def in_turn(method: Method) -> Method:
    """Served one after the other by the `_turn` of whose method it is."""

    @functools.wraps(method)
    def served(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._turn.lock:  # in C, where no signal comes in between
            return method(self, *args, **kwargs)

    return served  # type: ignore[return-value]


def refuse(module: torch.nn.Module, is_step: bool) -> None:
    """Raise RuntimeError where a memory cannot be kept as it must be.

    That is in a wrapper that has split the module or its weights (a memory must see all
    steps of its own process, and whole class weights); in a backward, which calls a
    step twice; and in a transform of torch.func, whose tensors are all its own, and
    dead when it ends (with PML's P2SGradLoss alone, PyTorch ends by a segmentation
    fault).
    """
    wrapper = ""
    if getattr(module, "_is_replica", False):
        wrapper = "DataParallel"
    elif getattr(module, "_is_fsdp_managed_module", False):
        wrapper = "FullyShardedDataParallel"
    if wrapper:
        raise RuntimeError(
            f"MemVir does not work within {wrapper}: leave the loss out of it, or use "
            "torch.nn.parallel.DistributedDataParallel for the loss"
        )
    if (transform := _innermost()) is not None:
        name = transform.key().name.lower()
        raise RuntimeError(
            f"MemVir was called within a transform of torch.func ({name}), whose "
            "tensors cannot be kept: use backward(), torch.autograd.grad or "
            "torch.autograd.functional"
        )
    if is_step and torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "MemVir was called in a backward, which would count a step twice: "
            "leave it out of activation checkpointing (torch.utils.checkpoint)"
        )
