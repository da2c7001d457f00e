"""`python -m benchmarks speed --operations`: what a training step asks of a GPU.

Counted are operations that would start a kernel or a copy on it; none is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pml_memvir import MemVir
from pml_memvir.training.deferred import DeferredAnswers
from tests.catalog import CASES, EMBEDDING_SIZE, NUM_CLASSES, Case, on_the_gpu

FILE = "operations.csv"
# Beside views: what allocates, and what only asks.
NO_WORK = (
    "_unsafe_view",
    "detach",
    "device",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
)
N, M, B = 2, 1, 4  # numbers do not depend on sizes, as long as one chunk has them all


class Operations(TorchDispatchMode):
    """Counts those on tensors of a device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors, _ = tree_flatten((args, kwargs, result))
        devices = {x.device.type for x in tensors if isinstance(x, torch.Tensor)}
        is_work = function.overloadpacket.__name__ not in NO_WORK
        self.count += is_work and not function.is_view and self.device in devices
        return result


def count() -> pd.DataFrame:
    """A row a loss: operations of a step with a full memory, and of the loss alone."""
    return pd.DataFrame([_row(case) for case in CASES])


def run(output: Path) -> pd.DataFrame:
    """Count all, and write operations.csv."""
    made = count()
    output.mkdir(parents=True, exist_ok=True)
    made.to_csv(output / FILE, index=False, lineterminator="\n")
    return made


def _row(case: Case) -> dict[str, Any]:
    memvir = MemVir(case.loss().float(), N, M)
    forward, in_forward, backward = _on_cpu(memvir)
    assert memvir.num_virtual_steps == N
    if memvir.algorithm_used != "concatenation":  # of which some read numbers
        forward = _forward_on_gpu(case) + in_forward
    plain_forward, _, plain_backward = _on_cpu(case.loss().float())
    return {
        "loss": case.name,
        "algorithm": memvir.algorithm_used,
        "forward": forward,
        "backward": backward,
        "plain forward": plain_forward,
        "plain backward": plain_backward,
        "torch": torch.__version__.partition("+")[0],
    }


def _batches(device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range((N + 2) * (M + 1)):
        x = torch.randn(B, EMBEDDING_SIZE, generator=generator).to(device)
        y = torch.randint(NUM_CLASSES, (B,), generator=generator).to(device)
        yield x.requires_grad_(), y


def _on_cpu(loss: torch.nn.Module) -> tuple[int, int, int]:
    """Of the forward call, of gradients taken within it, and of the backward."""
    in_forward, take = 0, torch.autograd.grad

    def grad(*args: Any, **kwargs: Any) -> Any:
        nonlocal in_forward
        before = forward.count
        taken = take(*args, **kwargs)
        in_forward += forward.count - before
        return taken

    for x, y in _batches("cpu"):
        loss.zero_grad()
        in_forward, forward = 0, Operations("cpu")
        with patch.object(torch.autograd, "grad", grad), forward:
            value = loss(x, y)
        with Operations("cpu") as backward:
            value.backward()
    return forward.count, in_forward, backward.count


def _forward_on_gpu(case: Case) -> int:
    """A made-up one, on which nothing goes backward; that is the same on a CPU."""
    loss = case.loss().float()

    def put(_: Any, step: int, together: torch.Tensor) -> None:
        together.to("cpu", non_blocking=True)  # nobody can ask such a device

    def grad(_: Any, inputs: Any, **__: Any) -> list[torch.Tensor]:
        return [torch.empty_like(x) for x in inputs]

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    answers = patch.object(DeferredAnswers, "put", put)
    with answers, patch.object(torch.autograd, "grad", grad), mode:
        memvir = MemVir(on_the_gpu(loss), N, M)
        for x, y in _batches("cuda"):
            with Operations("cuda") as forward:
                memvir(x, y)
    assert memvir.num_virtual_steps == N
    return forward.count
