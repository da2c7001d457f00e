"""What each row-softmax loss makes of an embedding and a class weight.

Each loss here is, row by row, a softmax over classes. Its logits are inner products of
a *row vector* with *class vectors*, times a scale; a margin changes the target logit
only. A form says what the vectors are, and what the target logit is.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml_losses
from torch.nn.functional import normalize

from .. import losses as own_losses
from .centers import MaxOfCenters, OneCenter, SoftmaxOfCenters

_LEAST_LENGTH = 1e-12  # of torch.nn.functional.normalize


class SoftmaxForm:
    """Softmax: embeddings and class weights as they are, and no margin."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    @property
    def fits(self) -> bool:
        """Whether the loss, as it is set up now, is of this form."""
        distance = self.loss.distance
        return (
            type(distance) is distances.DotProductSimilarity
            and distance.power == 1
            and not distance.normalize_embeddings
        )

    @property
    def scale(self) -> float:
        """Factor of the inner products."""
        return 1.0

    @property
    def centers(self) -> OneCenter:
        """What becomes of K centres a class."""
        return OneCenter()

    @property
    def key(self) -> tuple[float, ...]:
        """Numbers that logits depend on: with another key they must be made anew."""
        return (self.scale, float(getattr(self.loss, "margin", 0)))

    def rows(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Row vectors (B, D) of embeddings (B, D)."""
        return embeddings

    def classes(self) -> torch.Tensor:
        """Class vectors (C K, D)."""
        classes: torch.Tensor = self.loss.class_vectors()
        return classes.t()

    def target(
        self, logits: torch.Tensor, rows: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Target logits (B,), margin included.

        Args:
            logits: (B,), without the margin.
            rows: (B, D), row vectors.
            classes: (B, K, D), class vectors of the labels.
        """
        return logits


class NormSoftmaxForm(SoftmaxForm):
    @property
    def scale(self) -> float:
        return float(self.loss.scale)


class ProxyNCAForm(NormSoftmaxForm):
    """Of -scale ||x - w||^2, with ||w|| = 1, only 2 scale x.w differs in a row."""

    @property
    def scale(self) -> float:
        return 2 * float(self.loss.scale)


class PMLProxyNCAForm(SoftmaxForm):
    """Squared distances of unit vectors, as in ProxyNCAForm."""

    @property
    def fits(self) -> bool:
        distance = self.loss.distance
        return (
            type(distance) is distances.LpDistance
            and distance.p == 2
            and distance.power == 2
            and bool(distance.normalize_embeddings)
        )

    @property
    def scale(self) -> float:
        return 2 * float(self.loss.softmax_scale)

    def rows(self, embeddings: torch.Tensor) -> torch.Tensor:
        return normalize(embeddings)

    def classes(self) -> torch.Tensor:
        return normalize(self.loss.proxies)


class InnerProductForm(SoftmaxForm):
    """Losses of PML whose distance is an inner product, of unit vectors or not."""

    @property
    def fits(self) -> bool:
        distance = self.loss.distance
        kinds = (distances.CosineSimilarity, distances.DotProductSimilarity)
        return (
            type(distance) in kinds
            and distance.power == 1
            and _is_plain_cross_entropy(getattr(self.loss, "cross_entropy", None))
        )

    @property
    def key(self) -> tuple[float, ...]:
        distance = self.loss.distance
        return (*super().key, distance.p, float(distance.normalize_embeddings))

    def rows(self, embeddings: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.loss.distance.maybe_normalize(embeddings)
        return rows


class NormalizedSoftmaxForm(InnerProductForm):
    """Class weights have unit length whether embeddings do or not."""

    @property
    def scale(self) -> float:
        return 1 / float(self.loss.temperature)

    def classes(self) -> torch.Tensor:
        classes: torch.Tensor = self.loss.distance.normalize(self.loss.W, dim=0)
        return classes.t()


class CosineForm(InnerProductForm):
    """CosFace and ArcFace: a margin on the cosine, then the scale."""

    @property
    def fits(self) -> bool:
        return (
            super().fits
            and bool(self.loss.distance.normalize_embeddings)
            and self.scale > 0  # it is divided by
        )

    @property
    def scale(self) -> float:
        return float(self.loss.scale)

    def classes(self) -> torch.Tensor:
        classes: torch.Tensor = self.loss.distance.normalize(self.loss.W, dim=0)
        return classes.t()

    def target(
        self, logits: torch.Tensor, rows: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        lengths = self.lengths(rows, classes)
        cosine = logits / self.scale
        for length in lengths:
            cosine = cosine / length.clamp_min(_LEAST_LENGTH)
        target: torch.Tensor = self.loss.modify_cosine_of_target_classes(cosine)
        for length in lengths:
            target = target * length
        return target * self.scale

    def lengths(
        self, rows: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """By what (B,) the cosine is multiplied, scale aside."""
        return ()


class SphereFaceForm(CosineForm):
    """Embeddings keep their length."""

    def rows(self, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings

    def lengths(
        self, rows: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return (torch.linalg.vector_norm(rows, dim=1),)

    @property
    def fits(self) -> bool:
        return super().fits and self.loss.distance.p == 2


class LargeMarginForm(SphereFaceForm):
    """Embeddings and class weights keep their length."""

    def classes(self) -> torch.Tensor:
        classes: torch.Tensor = self.loss.W.t()
        return classes

    def lengths(
        self, rows: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        of_classes = torch.linalg.vector_norm(classes[:, 0], dim=1)
        return (*super().lengths(rows, classes), of_classes)


class SubCenterForm(CosineForm):
    @property
    def centers(self) -> OneCenter:
        return MaxOfCenters(self.loss.sub_centers)


class SoftTripleForm(InnerProductForm):
    @property
    def centers(self) -> OneCenter:
        loss = self.loss
        return SoftmaxOfCenters(loss.centers_per_class, loss.gamma, loss.la)

    @property
    def key(self) -> tuple[float, ...]:
        return (*super().key, float(self.loss.gamma), float(self.loss.la))

    def classes(self) -> torch.Tensor:
        classes: torch.Tensor = self.loss.distance.maybe_normalize(self.loss.fc.t())
        return classes

    def target(
        self, logits: torch.Tensor, rows: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        target: torch.Tensor = logits - self.loss.la * self.loss.margin
        return target


def _is_plain_cross_entropy(module: Any) -> bool:
    """Whether it is the one that PML's losses come with, or they have none."""
    if module is None:
        return True
    return (
        type(module) is torch.nn.CrossEntropyLoss
        and module.weight is None
        and module.ignore_index == -100
        and module.label_smoothing == 0
        and module.reduction == "none"
    )


_FORMS: dict[type, type[SoftmaxForm]] = {
    own_losses.NormSoftmax: NormSoftmaxForm,
    own_losses.ProxyNCA: ProxyNCAForm,
    own_losses.Softmax: SoftmaxForm,
    pml_losses.ArcFaceLoss: CosineForm,
    pml_losses.CosFaceLoss: CosineForm,
    pml_losses.LargeMarginSoftmaxLoss: LargeMarginForm,
    pml_losses.NormalizedSoftmaxLoss: NormalizedSoftmaxForm,
    pml_losses.ProxyNCALoss: PMLProxyNCAForm,
    pml_losses.SoftTripleLoss: SoftTripleForm,
    pml_losses.SphereFaceLoss: SphereFaceForm,
    pml_losses.SubCenterArcFaceLoss: SubCenterForm,
}


def form_of(loss: torch.nn.Module) -> SoftmaxForm | None:
    """The form of a loss of exactly one of these classes, whether it fits or not."""
    form = _FORMS.get(type(loss))
    return form(loss) if form else None
