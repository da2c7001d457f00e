"""What MemVir has to know of each loss: one LossSpec a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_metric_learning.losses.arcface_loss import ArcFaceLoss
from pytorch_metric_learning.losses.cosface_loss import CosFaceLoss
from pytorch_metric_learning.losses.large_margin_softmax_loss import (
    LargeMarginSoftmaxLoss,
)
from pytorch_metric_learning.losses.normalized_softmax_loss import NormalizedSoftmaxLoss
from pytorch_metric_learning.losses.p2s_grad_loss import P2SGradLoss
from pytorch_metric_learning.losses.proxy_anchor_loss import ProxyAnchorLoss
from pytorch_metric_learning.losses.proxy_losses import ProxyNCALoss
from pytorch_metric_learning.losses.soft_triple_loss import SoftTripleLoss
from pytorch_metric_learning.losses.sphereface_loss import SphereFaceLoss
from pytorch_metric_learning.losses.subcenter_arcface_loss import SubCenterArcFaceLoss
from pytorch_metric_learning.utils import common_functions as c_f

from . import inner


def _cast_types(loss: torch.nn.Module, embeddings: torch.Tensor) -> None:
    """Let the loss bring its class weights to the embeddings' dtype and device."""
    cast_types: Any = getattr(loss, "cast_types", None)
    if cast_types is not None:
        cast_types(embeddings.dtype, embeddings.device)


def _renormalise(loss: torch.nn.Module, embeddings: torch.Tensor) -> None:
    """P2SGrad keeps its class weights at unit length by rewriting them."""
    weight: Any = loss.weight
    unit = weight.data.renorm(2, 1, 1e-5).mul(1e5)
    weight.data = c_f.to_device(unit, embeddings, dtype=embeddings.dtype)


@dataclass(frozen=True)
class LossSpec:
    """How a loss stores C classes of K centres, of D numbers, and what it computes.

    Args:
        parameter, class_dim, centers_per_class: see `register_loss`.
        logits: of a loss that is a softmax over classes.
        before_loss: what the loss does to its own class weights in a forward call;
            done on the parameter before virtual classes are appended to it.
        weighs_anchors_only: whether it counts only anchors of a miner's output.
        is_users: whether a user has registered it.
    """

    parameter: str
    class_dim: int
    centers_per_class: int | str = 1
    logits: inner.Logits | None = None
    before_loss: Callable[[torch.nn.Module, torch.Tensor], None] = _cast_types
    weighs_anchors_only: bool = False
    is_users: bool = False

    def owner(self, loss: torch.nn.Module) -> torch.nn.Module:
        """The loss or, where the parameter is given by a path, that part of it."""
        return loss.get_submodule(self.parameter.rpartition(".")[0])

    def get(self, loss: torch.nn.Module) -> torch.nn.Parameter:
        name = self.parameter.rpartition(".")[2]
        weight: torch.nn.Parameter = getattr(self.owner(loss), name)
        return weight

    def class_weights(self, loss: torch.nn.Module) -> torch.Tensor:
        """As (C K, D); a view, not a copy."""
        weight = self.get(loss)
        return weight if self.class_dim == 0 else weight.t()

    def num_centers(self, loss: torch.nn.Module) -> int:
        """K, centres a class."""
        k = self.centers_per_class
        return int(getattr(loss, k)) if isinstance(k, str) else k

    def num_classes(self, loss: torch.nn.Module) -> int:
        """C, by the parameter's shape: some losses say num_classes = 0."""
        return self.get(loss).shape[self.class_dim] // self.num_centers(loss)

    def embedding_size(self, loss: torch.nn.Module) -> int:
        return self.get(loss).shape[1 - self.class_dim]

    def replacing(
        self, loss: torch.nn.Module, virtual: torch.Tensor, *, with_actual: bool
    ) -> dict[str, Any]:
        """The loss's attributes, by name or path, for other classes.

        Args:
            virtual: (n C K, D), the class weights of n snapshots, one after another.
            with_actual: whether the actual ones come before them.
        """
        weight, classes = self.get(loss), self.num_classes(loss)
        whole = virtual.to(weight) if self.class_dim == 0 else virtual.to(weight).t()
        if with_actual:
            whole = torch.cat([weight, whole], dim=self.class_dim)
        total = whole.shape[self.class_dim] // self.num_centers(loss)
        attributes: dict[str, Any] = {self.parameter: whole}
        for path in {"", self.parameter.rpartition(".")[0]}:
            module, prefix = loss.get_submodule(path), path + "." if path else ""
            if getattr(module, "num_classes", None) == classes:
                attributes[f"{prefix}num_classes"] = total
            if hasattr(module, "proxy_labels"):
                labels = torch.arange(total, device=weight.device)
                attributes[f"{prefix}proxy_labels"] = labels
        return attributes

    def check(self, loss: torch.nn.Module) -> None:
        """Raise ValueError unless the loss has class weights of this spec."""
        name = type(loss).__name__
        try:
            weight: Any = self.get(loss)
        except AttributeError:
            weight = None
        # torch.func.functional_call puts plain tensors in the place of parameters.
        own = self.parameter.rpartition(".")[2]
        is_there = weight is not None and own in self.owner(loss)._parameters
        kind = torch.Tensor if is_there else torch.nn.Parameter
        if not isinstance(weight, kind) or weight.ndim != 2:
            raise ValueError(
                f"{name}.{self.parameter} must be a 2-D torch.nn.Parameter, got "
                f"{'nothing' if weight is None else type(weight).__name__}"
                f"{tuple(weight.shape) if isinstance(weight, torch.Tensor) else ''}"
            )
        k = self.centers_per_class
        if isinstance(k, str) and not hasattr(loss, k):
            raise ValueError(f"{name} has no attribute {k!r}, its centers_per_class")
        size, k = weight.shape[self.class_dim], self.num_centers(loss)
        if k < 1 or size < 1 or size % k:
            raise ValueError(
                f"{name}.{self.parameter} must hold a positive multiple of "
                f"centers_per_class={k} along dimension {self.class_dim}, "
                f"got shape {tuple(weight.shape)}"
            )


SPECS: dict[type, LossSpec] = {
    ArcFaceLoss: LossSpec("W", 1, 1, inner.large_margin),
    CosFaceLoss: LossSpec("W", 1, 1, inner.large_margin),
    LargeMarginSoftmaxLoss: LossSpec("W", 1, 1, inner.large_margin),
    NormalizedSoftmaxLoss: LossSpec("W", 1, 1, inner.normalized_softmax),
    P2SGradLoss: LossSpec("weight", 1, before_loss=_renormalise),
    ProxyAnchorLoss: LossSpec("proxies", 0),
    ProxyNCALoss: LossSpec("proxies", 0, 1, inner.proxy_nca, weighs_anchors_only=True),
    SoftTripleLoss: LossSpec("fc", 1, "centers_per_class", inner.soft_triple),
    SphereFaceLoss: LossSpec("W", 1, 1, inner.large_margin),
    SubCenterArcFaceLoss: LossSpec("W", 1, "sub_centers", inner.large_margin),
}


def is_built_in(loss: object) -> bool:
    """Whether it is of exactly a class that was not registered by a user."""
    return type(loss) in SPECS and not SPECS[type(loss)].is_users


def has_logits(loss: Any) -> bool:
    """Whether it is a softmax over classes by its class, and by what it is now."""
    spec = SPECS.get(type(loss))
    return (
        spec is not None
        and spec.logits is not None
        and inner.is_plain_softmax(loss)
        and not inner.needs_own_forward(loss, spec.get(loss))
    )


def supported_losses() -> list[str]:
    """Names of the losses that have a spec, sorted."""
    return sorted(cls.__name__ for cls in SPECS)


def unsupported(name: str) -> ValueError:
    """The error for a loss without a spec."""
    return ValueError(
        f"MemVir does not support {name}: it needs a loss with one weight vector or "
        f"more for each class. Supported: {', '.join(supported_losses())}. Add your "
        "own with register_loss"
    )


def nearest(cls: type) -> LossSpec | None:
    """Of the nearest registered class in the MRO."""
    return next((SPECS[base] for base in cls.__mro__ if base in SPECS), None)


def spec_of(loss: object) -> LossSpec:
    """The spec of a loss that fits it; ValueError if there is none."""
    spec = nearest(type(loss))
    if spec is not None:
        assert isinstance(loss, torch.nn.Module)
        spec.check(loss)
        return spec
    if isinstance(loss, type):
        raise unsupported(f"the class {loss.__name__} (pass an instance of a loss)")
    raise unsupported(type(loss).__name__)


def register_loss(
    cls: type[torch.nn.Module],
    parameter: str,
    class_dim: int,
    centers_per_class: int | str = 1,
) -> None:
    """Make MemVir accept a loss of your own, and its subclasses.

    The loss must follow the library's conventions: it is called as
    `loss(embeddings, labels, indices_tuple)`, reads its number of classes from the
    parameter or from an attribute `num_classes`, has nothing else of that size (no
    bias), and uses an `indices_tuple`, if at all, through
    `loss_and_miner_utils.convert_to_weights`.

    Args:
        cls: the loss class.
        parameter: name of its parameter of class weights, or the path to it
            ("head.weight").
        class_dim: 0 if that parameter is (classes, embedding_size), 1 if it is
            (embedding_size, classes).
        centers_per_class: centres a class (class-major), or the name of the attribute
            that holds their number.

    Raises:
        TypeError, ValueError: an argument is not of that form.
    """
    if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise TypeError(f"cls must be a subclass of torch.nn.Module, got {cls!r}")
    if cls in SPECS and not SPECS[cls].is_users:
        raise ValueError(f"{cls.__name__} is supported already")
    if not isinstance(parameter, str) or not all(
        part.isidentifier() or part.isdigit() for part in parameter.split(".")
    ):
        raise ValueError(
            'parameter must be a path ("head.weight") or an attribute\'s name, '
            f"got {parameter!r}"
        )
    if class_dim not in (0, 1):
        raise ValueError(f"class_dim must be 0 or 1, got {class_dim!r}")
    if not isinstance(centers_per_class, str) and (
        not isinstance(centers_per_class, int) or centers_per_class < 1
    ):
        raise ValueError(
            "centers_per_class must be an integer >= 1 or an attribute's name, "
            f"got {centers_per_class!r}"
        )
    spec = LossSpec(parameter, class_dim, centers_per_class, is_users=True)
    SPECS[cls] = spec
