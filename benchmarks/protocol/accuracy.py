"""PML's AccuracyCalculator, and Recall@K for any K."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning.utils import accuracy_calculator as pml
from pytorch_metric_learning.utils.inference import (
    CustomKNN,
    FaissKMeans,
    FaissKNN,
)

from ..report.names import RECALL_AT
from .blocks import InBlocks

__all__ = ["AccuracyCalculator"]

# What `knn_func` and `kmeans_func` may be in a config.
KNN_FUNCTIONS = {"CustomKNN": CustomKNN, "FaissKNN": FaissKNN}
KMEANS_FUNCTIONS = {"FaissKMeans": FaissKMeans}


class AccuracyCalculator(InBlocks):
    """Also computes `recall_at_<K>`: the share of queries that have one of their own
    class among the K nearest references. Recall@1 is PML's `precision_at_1`.

    Queries without any reference of their class are left out, as in PML. Its own
    metrics see the neighbours that `k` says, whatever K is.

    Args:
        recall_at: every K, 2 or more; they come beside what `include` names.
        include: as in PML.
        kwargs: PML's.

    Raises:
        ValueError: `recall_at` is no list of such integers.

    Source: Oh Song et al., "Deep Metric Learning via Lifted Structured Feature
    Embedding", CVPR 2016, arXiv 1511.06452.
    """

    def __init__(
        self,
        recall_at: list[int] | tuple[int, ...] = (),
        include: list[str] | tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        if not isinstance(recall_at, (list, tuple)) or any(
            type(k) is not int or k < 2 for k in recall_at
        ):
            raise ValueError(
                "recall_at must list integers of 2 or more (Recall@1 is "
                f"precision_at_1), got {recall_at!r}"
            )
        self.recall_at = {f"{RECALL_AT}{k}": k for k in recall_at}
        for name, k in self.recall_at.items():  # PML finds metrics by such attributes
            setattr(self, f"calculate_{name}", partial(self._recall, k))
        if include:
            include = list(dict.fromkeys([*include, *self.recall_at]))
        super().__init__(include=include, **kwargs)

    def requires_knn(self) -> list[str]:
        return [*super().requires_knn(), *self.recall_at]

    def determine_k(
        self, bin_counts: torch.Tensor, num_reference: int, ref_includes_query: bool
    ) -> int:
        usual = super().determine_k(bin_counts, num_reference, ref_includes_query)
        self._usual_k = usual
        there = num_reference - int(ref_includes_query)
        return max(usual, min(there, max(self.recall_at.values(), default=0)))

    def _get_accuracy(
        self, function_dict: dict[str, Callable[..., Any]], **kwargs: Any
    ) -> dict[str, Any]:
        usual = dict(kwargs)
        for name in ("knn_labels", "knn_distances"):
            if name in kwargs:
                usual[name] = kwargs[name][:, : self._usual_k]
        return {
            name: calculate(**(kwargs if name in self.recall_at else usual))
            for name, calculate in function_dict.items()
        }

    def _recall(
        self,
        k: int,
        knn_labels: torch.Tensor,
        query_labels: torch.Tensor,
        not_lone_query_mask: torch.Tensor,
        label_counts: tuple[torch.Tensor, torch.Tensor],
        **kwargs: Any,
    ) -> float | list[float]:
        if not not_lone_query_mask.any():
            return pml.nan_accuracy(label_counts[0], self.return_per_class)
        labels = query_labels[not_lone_query_mask][:, None]
        nearest = knn_labels[not_lone_query_mask][:, :k]
        found = self.label_comparison_fn(labels, nearest).any(dim=1)
        return pml.maybe_get_avg_of_avgs(
            found.double(), labels, self.avg_of_avgs, self.return_per_class
        )
