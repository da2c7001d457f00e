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

from .. import losses as own_losses
from ..form import key_of
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
    def row_norm(self) -> float | None:
        """p of the norm by which row vectors have unit length; None: as they are."""
        return None

    @property
    def class_norm(self) -> float | None:
        """The same of class vectors."""
        return None

    @property
    def key(self) -> int:
        """Of the settings that logits depend on: with another one they must be made
        anew."""
        return key_of(self.loss, self.scale, float(getattr(self.loss, "margin", 0)))

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
    class_norm = 2.0

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

    row_norm = class_norm = 2.0

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
    def row_norm(self) -> float | None:
        distance = self.loss.distance
        return float(distance.p) if distance.normalize_embeddings else None


class NormalizedSoftmaxForm(InnerProductForm):
    """Class weights have unit length whether embeddings do or not."""

    @property
    def scale(self) -> float:
        return 1 / float(self.loss.temperature)

    @property
    def class_norm(self) -> float | None:
        return float(self.loss.distance.p)


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

    @property
    def class_norm(self) -> float | None:
        return float(self.loss.distance.p)

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

    row_norm = None

    def lengths(
        self, rows: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return (torch.linalg.vector_norm(rows, dim=1),)

    @property
    def fits(self) -> bool:
        return super().fits and self.loss.distance.p == 2


class LargeMarginForm(SphereFaceForm):
    """Embeddings and class weights keep their length."""

    class_norm = None

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
    def class_norm(self) -> float | None:
        return self.row_norm

    @property
    def key(self) -> int:
        numbers = (self.loss.gamma, self.loss.la, self.loss.margin)
        return key_of(self.loss, *map(float, numbers))

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
