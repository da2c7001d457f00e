"""What each loss makes of an embedding and a class weight, for those at O(N).

A function takes a loss and gives its kernel, or None where the loss, as it is set up
now, has none: a distance or cross-entropy that is not known goes by concatenation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml_losses

from .. import losses
from ..core.centers import MaxOfCenters, OneCenter, SoftmaxOfCenters
from ..core.kernel import Kernel, ProxyAnchor, RowSoftmax
from .inner import is_plain_softmax
from .specs import SPECS, LossSpec


def softmax(loss: Any) -> Kernel | None:
    """Embeddings and class weights as they are."""
    return RowSoftmax() if _is_plain_product(loss) else None


def norm_softmax(loss: Any, factor: float = 1) -> Kernel | None:
    """Class weights of unit length."""
    scale = factor * float(loss.scale)
    return RowSoftmax(scale, class_norm=2.0) if _is_plain_product(loss) else None


def proxy_nca(loss: Any) -> Kernel | None:
    """Of -scale ||x - w||^2, with ||w|| = 1, only 2 scale x.w differs by class."""
    return norm_softmax(loss, factor=2)


def pml_proxy_nca(loss: Any) -> Kernel | None:
    """Squared distances of unit vectors, likewise."""
    distance = loss.distance
    is_squared = distance.p == 2 and distance.power == 2
    if type(distance) is not distances.LpDistance or not is_squared:
        return None
    if not distance.normalize_embeddings:
        return None
    scale = 2 * float(loss.softmax_scale)
    return RowSoftmax(scale, embedding_norm=2.0, class_norm=2.0)


def normalized_softmax(loss: Any) -> Kernel | None:
    """Class weights have unit length whether embeddings do or not."""
    if not _is_softmax_of_products(loss):
        return None
    p = float(loss.distance.p)
    scale = 1 / float(loss.temperature)
    return RowSoftmax(scale, embedding_norm=_norm(loss), class_norm=p)


def cos_face(loss: Any) -> Kernel | None:
    """ArcFace's logits, and a margin that all cosines have alike."""
    kernel, offset = arc_face(loss), -float(loss.scale) * float(loss.margin)
    return kernel and replace(kernel, margin=None, offset=offset)


def arc_face(loss: Any, centers: OneCenter = OneCenter()) -> RowSoftmax | None:
    """Embeddings and class weights of unit length."""
    p = _norm(loss)
    return None if p is None else _margin(loss, p, p, centers)


def sub_center(loss: Any) -> Kernel | None:
    return arc_face(loss, MaxOfCenters(loss.sub_centers))


def sphere_face(loss: Any) -> Kernel | None:
    """Embeddings keep their length."""
    return _margin(loss, None, 2.0) if _norm(loss) == 2 else None


def large_margin(loss: Any) -> Kernel | None:
    """Embeddings and class weights keep their length."""
    return _margin(loss, None, None) if _norm(loss) == 2 else None


def soft_triple(loss: Any) -> Kernel | None:
    """Within the softmax over centres the scale is `gamma`, of logits `la`."""
    la, gamma, margin = (float(getattr(loss, n)) for n in ("la", "gamma", "margin"))
    if gamma <= 0 or not _is_softmax_of_products(loss):
        return None
    p = _norm(loss)
    return RowSoftmax(
        gamma,
        centers=SoftmaxOfCenters(loss.centers_per_class, la / gamma),
        embedding_norm=p,
        class_norm=p,
        offset=-la * margin,
    )


def proxy_anchor(loss: Any) -> Kernel | None:
    if not _is_inner_product(loss.distance):
        return None
    alpha, p = float(loss.alpha), _norm(loss)
    shift = alpha * float(loss.margin)
    return ProxyAnchor(alpha, shift, embedding_norm=p, class_norm=p)


def _margin(
    loss: Any,
    embedding_norm: float | None,
    class_norm: float | None,
    centers: OneCenter = OneCenter(),
) -> RowSoftmax | None:
    """A margin on the cosine, then the scale."""
    scale = float(loss.scale)
    if scale <= 0 or not _is_softmax_of_products(loss):
        return None
    return RowSoftmax(
        scale,
        centers=centers,
        embedding_norm=embedding_norm,
        class_norm=class_norm,
        margin=loss.modify_cosine_of_target_classes,
    )


def _norm(loss: Any) -> float | None:
    distance = loss.distance
    return float(distance.p) if distance.normalize_embeddings else None


def _is_inner_product(distance: Any) -> bool:
    kinds = (distances.CosineSimilarity, distances.DotProductSimilarity)
    return type(distance) in kinds and bool(distance.power == 1)


def _is_plain_product(loss: Any) -> bool:
    return _norm(loss) is None and _is_inner_product(loss.distance)


def _is_softmax_of_products(loss: Any) -> bool:
    """Whether its cross-entropy, too, is the one that PML's losses come with."""
    return is_plain_softmax(loss) and _is_inner_product(loss.distance)


KERNELS: dict[type, Callable[[Any], Kernel | None]] = {
    pml_losses.ArcFaceLoss: arc_face,
    pml_losses.CosFaceLoss: cos_face,
    pml_losses.LargeMarginSoftmaxLoss: large_margin,
    pml_losses.NormalizedSoftmaxLoss: normalized_softmax,
    pml_losses.ProxyAnchorLoss: proxy_anchor,
    pml_losses.ProxyNCALoss: pml_proxy_nca,
    pml_losses.SoftTripleLoss: soft_triple,
    pml_losses.SphereFaceLoss: sphere_face,
    pml_losses.SubCenterArcFaceLoss: sub_center,
    losses.NormSoftmax: norm_softmax,
    losses.ProxyNCA: proxy_nca,
    losses.Softmax: softmax,
}
SPECS.update(
    dict.fromkeys(
        (losses.NormSoftmax, losses.ProxyNCA, losses.Softmax), LossSpec("W", 1)
    )
)
