"""Softmax: cross-entropy over the inner products with one weight vector a class."""

from __future__ import annotations

import math
from typing import Any

import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.losses.mixins import WeightRegularizerMixin
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu


class Softmax(WeightRegularizerMixin, BaseMetricLossFunction):
    """Softmax cross-entropy, with neither normalisation nor bias.

    Naive equivalent:

        cross_entropy(embeddings @ W, labels)

    Embeddings are used as given: where they should have unit length, the embedder
    normalises them. Miner weights, reducers and regularisers work as in every PML
    classification loss.

    Args:
        num_classes: C.
        embedding_size: D.
        **kwargs: those of PML's losses (`reducer`, `weight_regularizer`,
            `weight_init_func`, `embedding_regularizer`, ...).

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1; `W` is (D, C).

    Raises:
        ValueError: `distance` is not a DotProductSimilarity without normalisation.

    Source: the base loss "Softmax" of Ko, Gu and Kim, ICCV 2021, arXiv 2103.16940.
    """

    def __init__(self, num_classes: int, embedding_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        distance = self.distance
        if type(distance) is not DotProductSimilarity or distance.normalize_embeddings:
            raise ValueError(
                f"{type(self).__name__} uses embeddings as given: distance must be "
                "DotProductSimilarity(normalize_embeddings=False), got "
                f"{type(distance).__name__}(normalize_embeddings="
                f"{getattr(distance, 'normalize_embeddings', None)})"
            )
        self.num_classes = num_classes
        self.embedding_size = embedding_size
        self.W = torch.nn.Parameter(torch.empty(embedding_size, num_classes))
        self.weight_init_func(self.W)
        self.add_to_recordable_attributes(
            list_of_names=["num_classes", "embedding_size"], is_stat=False
        )

    def cast_types(self, dtype: torch.dtype, device: torch.device) -> None:
        self.W.data = c_f.to_device(self.W.data, device=device, dtype=dtype)

    def compute_loss(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
        ref_emb: torch.Tensor | None,
        ref_labels: torch.Tensor | None,
    ) -> dict[str, dict[str, Any]]:
        c_f.labels_required(labels)
        c_f.ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        dtype, device = embeddings.dtype, embeddings.device
        self.cast_types(dtype, device)
        miner_weights = lmu.convert_to_weights(indices_tuple, labels, dtype=dtype)
        logits = self.get_logits(embeddings)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        loss_dict = {
            "loss": {
                "losses": losses * miner_weights,
                "indices": c_f.torch_arange_from_size(embeddings),
                "reduction_type": "element",
            }
        }
        self.add_weight_regularization_to_loss_dict(loss_dict, self.W.t())
        return loss_dict

    def class_vectors(self) -> torch.Tensor:
        """What the embeddings are multiplied with, (D, C)."""
        return self.W

    def get_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of embeddings (B, D)."""
        logits: torch.Tensor = self.distance(embeddings, self.class_vectors().t())
        return logits

    def get_default_distance(self) -> DotProductSimilarity:
        return DotProductSimilarity(normalize_embeddings=False)

    def get_default_weight_init_func(self) -> c_f.TorchInitWrapper:
        return c_f.TorchInitWrapper(torch.nn.init.kaiming_uniform_, a=math.sqrt(5))
