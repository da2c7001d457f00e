"""The arms of the comparison, each a function of one training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytorch_metric_learning import losses as pml_losses

from pml_memvir import MemVir
from pml_memvir import losses as own_losses
from tests.reference import (
    Inner,
    NaiveMemVir,
    Snapshot,
    norm_softmax,
    pml_inner,
    proxy_nca,
    softmax,
    softmax_inner,
)

ARMS = ("plain", "fast", "oracle", "floor")
CENTERS = {"SoftTripleLoss": 3, "SubCenterArcFaceLoss": 3}


@dataclass(frozen=True)
class Setting:
    """One row of the table. N snapshots, gap M, batch B, C classes, D numbers."""

    loss: str
    N: int
    M: int
    B: int
    C: int
    D: int

    def __str__(self) -> str:
        return f"{self.loss} " + " ".join(
            f"{name}={value}" for name, value in asdict(self).items() if name != "loss"
        )

    @property
    def floor_operations(self) -> int:
        """Floating-point operations that must be done, both gradients included."""
        return 2 * self.B * self.C * self.centers * self.D * (4 * self.N + 3)

    @property
    def centers(self) -> int:
        return CENTERS.get(self.loss, 1)

    @property
    def oracle_nbytes(self) -> int:
        """About what the oracle's logits and their gradients occupy, in float32."""
        return 4 * 4 * (self.N + 1) ** 2 * self.B * self.C * self.centers


def make_loss(setting: Setting, num_classes: int, **kwargs: Any) -> torch.nn.Module:
    """The loss by its name, with `num_classes` classes."""
    cls = getattr(own_losses, setting.loss, None) or getattr(pml_losses, setting.loss)
    if setting.loss == "SoftTripleLoss":
        kwargs["centers_per_class"] = setting.centers
    if setting.loss == "SubCenterArcFaceLoss":
        kwargs["sub_centers"] = setting.centers
    return cls(num_classes=num_classes, embedding_size=setting.D, **kwargs)


def oracle_inner(setting: Setting, loss: torch.nn.Module) -> tuple[Inner, torch.Tensor]:
    """The oracle's inner loss, and the class weights (C K, D) to begin with."""
    own = {
        "Softmax": softmax,
        "NormSoftmax": norm_softmax(23.0),
        "ProxyNCA": proxy_nca(12.0),
    }
    (name, weight), *_ = loss.named_parameters()
    class_dim = 0 if name == "proxies" else 1
    rows = weight.detach() if class_dim == 0 else weight.detach().t()
    if setting.loss in own:
        return softmax_inner(own[setting.loss]), rows
    # Not the oracle's fault: a loss that is made anew for each call need not draw
    # random weights, which are overwritten.
    make = lambda c: make_loss(setting, c, weight_init_func=_no_init)  # noqa: E731
    return pml_inner(make, name, class_dim, setting.centers), rows


def _no_init(_: torch.Tensor) -> None:
    """Leaves the weights as they are."""


def batches(setting: Setting, device: str) -> Iterator[tuple[torch.Tensor, ...]]:
    """Unit embeddings and labels, made outside what is timed."""
    generator = torch.Generator(device).manual_seed(0)
    size = (setting.B, setting.D)
    while True:
        x = torch.randn(size, generator=generator, device=device)
        y = torch.randint(setting.C, (setting.B,), generator=generator, device=device)
        yield torch.nn.functional.normalize(x), y


def steps(setting: Setting, arm: str, device: str) -> Callable[[], float]:
    """A function that does a step of the arm, memory full, and returns its seconds."""
    torch.manual_seed(0)
    source = batches(setting, device)
    loss = make_loss(setting, setting.C).to(device)
    if arm == "plain":
        return _of_module(loss, source)
    if arm == "fast":
        memvir = MemVir(loss, setting.N, setting.M)
        step = _of_module(memvir, source)
        for _ in range((setting.N + 1) * (setting.M + 1)):
            step()
        assert memvir.num_virtual_steps == setting.N
        return step
    if arm == "oracle":
        return _of_oracle(setting, loss, source)
    return _of_floor(setting, device)


def _of_module(
    loss: torch.nn.Module, source: Iterator[tuple[torch.Tensor, ...]]
) -> Callable[[], float]:
    def step() -> float:
        x, y = next(source)
        x.requires_grad_()
        loss.zero_grad()
        return timed(lambda: loss(x, y).backward(), x.device)

    return step


def _of_oracle(
    setting: Setting,
    loss: torch.nn.Module,
    source: Iterator[tuple[torch.Tensor, ...]],
) -> Callable[[], float]:
    inner, rows = oracle_inner(setting, loss)
    naive = NaiveMemVir(inner, setting.C, setting.N, setting.M)
    span = setting.N * (setting.M + 1)
    for age in range(1, span + 1):
        x, y = next(source)
        naive.snapshots[-age] = Snapshot(x, y, rows.clone())

    def step() -> float:
        x, y = next(source)
        seconds = timed(lambda: naive(x, y, rows), x.device)
        naive.snapshots.pop(naive.step - 1 - span)
        return seconds

    return step


def _of_floor(setting: Setting, device: str) -> Callable[[], float]:
    """Plain matrix products of the shapes that must be computed, and nothing else."""
    N, B, C, D = setting.N, setting.B, setting.C * setting.centers, setting.D
    shapes = {"X": (B, D), "W": (C, D), "VW": (N * C, D), "VX": (N * B, D)}
    shapes |= {"P": (B, N * C), "Q": (N * B, C), "S": (B, C)}
    m = {name: torch.randn(shape, device=device) for name, shape in shapes.items()}

    def products() -> None:
        m["X"] @ m["W"].t()  # actual rows, actual classes
        m["S"] @ m["W"]
        m["S"].t() @ m["X"]
        m["X"] @ m["VW"].t()  # actual rows, virtual classes
        m["P"] @ m["VW"]
        m["VX"] @ m["W"].t()  # virtual rows, actual classes
        m["Q"].t() @ m["VX"]

    return lambda: timed(products, device)


def timed(function: Callable[[], Any], device: str | torch.device) -> float:
    """Seconds of one call, until the device has done all of it."""
    wait = torch.device(device).type == "cuda"
    if wait:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if wait:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
