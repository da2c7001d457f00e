"""Every supported loss, once for the package and once for the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses as pml

from pml_memvir import MemVir
from pml_memvir import losses as own

from . import reference
from .reference import Inner, pml_inner, softmax_inner

NUM_CLASSES = 5
EMBEDDING_SIZE = 6


@dataclass
class Case:
    name: str
    make: Callable[..., torch.nn.Module]  # (num_classes, **kwargs) -> loss
    parameter: str
    class_dim: int
    num_centers: int = 1
    own_inner: Inner | None = None
    tolerance: float = 1e-9

    def loss(self, num_classes: int = NUM_CLASSES, **kwargs: Any) -> torch.nn.Module:
        return self.make(num_classes, **kwargs).double()

    def algorithm_used(self, wanted: str) -> str:
        """What `algorithm_used` says of the loss as it is by default."""
        if wanted == "concatenation" or self.name == "P2SGradLoss":
            return "concatenation"
        return "proxy_anchor" if self.name == "ProxyAnchorLoss" else "row_softmax"

    def inner(self, **kwargs: Any) -> Inner:
        if self.own_inner is not None:
            return self.own_inner
        make = partial(self.loss, **kwargs)
        return pml_inner(make, self.parameter, self.class_dim, self.num_centers)

    def weight(self, loss: torch.nn.Module) -> torch.nn.Parameter:
        return getattr(loss, self.parameter)

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the parameter's shape as (classes x centres, D)."""
        return tensor if self.class_dim == 0 else tensor.t()


def _make(cls: type, **fixed: Any) -> Callable[..., torch.nn.Module]:
    def make(num_classes: int, **kwargs: Any) -> torch.nn.Module:
        return cls(
            num_classes=num_classes, embedding_size=EMBEDDING_SIZE, **fixed, **kwargs
        )

    return make


def _make_p2s(num_classes: int, **kwargs: Any) -> torch.nn.Module:
    return pml.P2SGradLoss(EMBEDDING_SIZE, num_classes, **kwargs)


CASES = [
    Case("NormalizedSoftmaxLoss", _make(pml.NormalizedSoftmaxLoss), "W", 1),
    Case("ProxyNCALoss", _make(pml.ProxyNCALoss, softmax_scale=3), "proxies", 0),
    Case("ProxyAnchorLoss", _make(pml.ProxyAnchorLoss), "proxies", 0),
    Case("SoftTripleLoss", _make(pml.SoftTripleLoss, centers_per_class=3), "fc", 1, 3),
    Case("LargeMarginSoftmaxLoss", _make(pml.LargeMarginSoftmaxLoss), "W", 1),
    Case("SphereFaceLoss", _make(pml.SphereFaceLoss), "W", 1),
    Case("CosFaceLoss", _make(pml.CosFaceLoss, scale=16), "W", 1),
    Case("ArcFaceLoss", _make(pml.ArcFaceLoss, scale=16), "W", 1),
    Case(
        "SubCenterArcFaceLoss",
        _make(pml.SubCenterArcFaceLoss, scale=16, sub_centers=2),
        "W",
        1,
        2,
    ),
    Case("P2SGradLoss", _make_p2s, "weight", 1, tolerance=1e-7),
    Case(
        "NormSoftmax",
        _make(own.NormSoftmax),
        "W",
        1,
        own_inner=softmax_inner(reference.norm_softmax(23.0)),
    ),
    Case(
        "ProxyNCA",
        _make(own.ProxyNCA),
        "W",
        1,
        own_inner=softmax_inner(reference.proxy_nca(12.0)),
    ),
    Case(
        "Softmax",
        _make(own.Softmax),
        "W",
        1,
        own_inner=softmax_inner(reference.softmax),
    ),
]
BY_NAME = {case.name: case for case in CASES}


FAST = [case for case in CASES if case.algorithm_used("auto") != "concatenation"]


def names(case: Case) -> str:
    """Of tests' parameters."""
    return case.name


def batch(
    generator: torch.Generator,
    size: int,
    num_classes: int = NUM_CLASSES,
    unit: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random embeddings (size, D), by default of unit length, and labels."""
    embeddings = torch.randn(
        size, EMBEDDING_SIZE, generator=generator, dtype=torch.float64
    )
    if unit:
        embeddings = torch.nn.functional.normalize(embeddings)
    return embeddings, torch.randint(num_classes, (size,), generator=generator)


def norm_softmax(**kwargs: Any) -> MemVir:
    """The MemVir of most tests; always of the same weights."""
    torch.manual_seed(0)
    return MemVir(own.NormSoftmax(NUM_CLASSES, EMBEDDING_SIZE).double(), **kwargs)


def fused_adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    """It leaves alone the counter by which a change in place is known."""
    try:
        return torch.optim.Adam(parameters, lr=lr, fused=True)
    except RuntimeError as error:  # it has been for GPUs alone
        assert "`fused=True` requires" in str(error)
        pytest.skip("this PyTorch has no fused Adam for the CPU")


def train(
    memvir: MemVir, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> list[torch.Tensor]:
    """The losses of some steps."""
    return [memvir(x.clone().requires_grad_(), y).detach() for x, y in batches]


def ragged(seed: int, num_steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of 2 to 6 rows."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(2, 7, (num_steps,), generator=generator).tolist()
    return [batch(generator, size) for size in sizes]


def on_the_gpu(loss: torch.nn.Module) -> torch.nn.Module:
    """A loss on a GPU that is not there; within a FakeTensorMode."""
    for module in loss.modules():
        tables: tuple[Any, ...] = module._parameters, module._buffers, vars(module)
        for some in tables:
            for name, value in list(some.items()):
                if isinstance(value, torch.Tensor):
                    made = torch.empty_like(value, device="cuda")
                    is_learned = isinstance(value, torch.nn.Parameter)
                    some[name] = torch.nn.Parameter(made) if is_learned else made
    return loss
