"""`python -m benchmarks precision`: what a memory of low precision changes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from rich.box import MARKDOWN
from rich.table import Table
from tqdm import tqdm

from pml_memvir import MemVir

from .speed.arms import Setting, make_loss

LOSSES = ("NormSoftmax", "ProxyNCA", "CosFaceLoss", "SoftTripleLoss", "ProxyAnchorLoss")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Errors:
    """Relative to a float64 computation with a float64 memory; the largest seen."""

    loss: float
    embedding_grad: float
    weight_grad: float


def measure(
    setting: Setting, dtype: torch.dtype, num_steps: int, drift: float = 0.02
) -> Errors:
    """Train in float32 with such a memory, and beside it the same in float64.

    Embeddings are noisy copies of their class weights, so that the loss is that of a
    training under way; class weights make the same random walk in both, of relative
    length `drift` a step.
    """
    torch.manual_seed(0)
    loss = make_loss(setting, setting.C)
    mine = MemVir(loss, setting.N, setting.M, memory_dtype=dtype)
    exact = MemVir(copy.deepcopy(loss).double(), setting.N, setting.M)
    (weight,), (exact_weight,) = mine.parameters(), exact.parameters()
    centers = loss.get_parameter(_name(loss)).detach()
    worst = [0.0, 0.0, 0.0]
    for _ in range(num_steps):
        y = torch.randint(setting.C, (setting.B,))
        own = centers if centers.shape[1] == setting.D else centers.t()
        own = own.reshape(setting.C, -1, setting.D)[:, 0][y]
        x = torch.nn.functional.normalize(own, dim=1)
        x = torch.nn.functional.normalize(x + 0.05 * torch.randn_like(x))
        values = []
        for memvir, parameter in ((mine, weight), (exact, exact_weight)):
            inputs = x.clone().to(parameter.dtype).requires_grad_()
            parameter.grad = None
            value = memvir(inputs, y)
            value.backward()
            values.append((value.detach(), inputs.grad, parameter.grad))
        if mine.num_virtual_steps == setting.N:
            for i, (a, b) in enumerate(zip(*values)):
                error = float((a.double() - b).norm() / b.norm())
                worst[i] = max(worst[i], error)
        with torch.no_grad():
            walk = torch.randn_like(weight)
            weight.add_(drift * weight.norm() / walk.norm() * walk)
            exact_weight.copy_(weight)
    return Errors(*worst)


def _name(loss: torch.nn.Module) -> str:
    return next(name for name, _ in loss.named_parameters())


def run() -> Table:
    """All losses and dtypes at the size of CARS196, N=20."""
    table = Table(box=MARKDOWN)
    table.add_column("loss", no_wrap=True)
    for name in ("memory_dtype", "loss error", "embeddings' grad", "weights' grad"):
        table.add_column(name, justify="right")
    for name in tqdm(LOSSES, leave=False):
        for dtype in DTYPES:
            e = measure(Setting(name, 20, 0, 128, 98, 512), dtype, num_steps=60)
            errors = (e.loss, e.embedding_grad, e.weight_grad)
            dtype_name = str(dtype).removeprefix("torch.")
            table.add_row(name, dtype_name, *(f"{error:.1e}" for error in errors))
    return table
