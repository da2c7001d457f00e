"""A GPU that is not there: tensors have a shape, a dtype and a device only."""

from __future__ import annotations

from typing import Any

import torch


def on_the_gpu(loss: torch.nn.Module) -> torch.nn.Module:
    """A loss whose tensors are on a GPU; within a FakeTensorMode."""
    for module in loss.modules():
        tables: tuple[Any, ...] = module._parameters, module._buffers, vars(module)
        for some in tables:
            for name, value in list(some.items()):
                if isinstance(value, torch.Tensor):
                    made = torch.empty_like(value, device="cuda")
                    is_learned = isinstance(value, torch.nn.Parameter)
                    some[name] = torch.nn.Parameter(made) if is_learned else made
    return loss
