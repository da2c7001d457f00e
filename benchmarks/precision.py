"""`python -m benchmarks precision`: what a memory of low precision changes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm import tqdm

from pml_memvir import MemVir

from .report.markdown import as_table
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
    (centers,) = (parameter.detach() for parameter in loss.parameters())
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


def run() -> str:
    """All losses and dtypes at the size of CARS196, N=20, in Markdown."""
    rows = []
    for name in tqdm(LOSSES, leave=False):
        for dtype in DTYPES:
            found = measure(Setting(name, 20, 0, 128, 98, 512), dtype, num_steps=60)
            row = {"loss": name, "memory_dtype": str(dtype).removeprefix("torch.")}
            errors = (found.loss, found.embedding_grad, found.weight_grad)
            heads = ("loss error", "embeddings' grad", "weights' grad")
            rows.append(row | {h: f"{e:.1e}" for h, e in zip(heads, errors)})
    return as_table(pd.DataFrame(rows))
