"""PML's AccuracyCalculator, and Recall@K for any K."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning.utils import accuracy_calculator as pml
from pytorch_metric_learning.utils.inference import (
    CustomKNN,
    FaissKMeans,
    FaissKNN,
    return_results,
)

from ..report.names import RECALL_AT

__all__ = ["AccuracyCalculator"]

# What `knn_func` and `kmeans_func` may be in a config.
KNN_FUNCTIONS = {"CustomKNN": CustomKNN, "FaissKNN": FaissKNN}
KMEANS_FUNCTIONS = {"FaissKMeans": FaissKMeans}
CLUSTERING = ("NMI", "AMI")
BLOCK = 1 << 22  # neighbours, or distances, that are kept at a time
BYTES = 64  # that PML's metrics need for a neighbour
COPIES = 3  # of the embeddings: the tester's, normalised, and in the index


class AccuracyCalculator(pml.AccuracyCalculator):
    """Also computes `recall_at_<K>`: the share of queries that have one of their own
    class among the K nearest references. Recall@1 is PML's `precision_at_1`.

    Neighbours are looked for in blocks of queries, so that k neighbours of all of them
    need not fit into memory. Where they fit into a block, numbers are PML's to the last
    digit.

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

    knn_func: Any
    avg_of_avgs: bool
    return_per_class: bool

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
        self.search, self.knn_func = self.knn_func, self._search_later

    def requires_knn(self) -> list[str]:
        return [*super().requires_knn(), *self.recall_at]

    def determine_k(
        self, bin_counts: torch.Tensor, num_reference: int, ref_includes_query: bool
    ) -> int:
        usual: int = super().determine_k(bin_counts, num_reference, ref_includes_query)
        self._usual_k = usual
        there = num_reference - int(ref_includes_query)
        self._k = max(usual, min(there, max(self.recall_at.values(), default=0)))
        return self._k

    def nbytes(
        self,
        query_labels: Sequence[int],
        reference_labels: Sequence[int],
        embedding_size: int,
        ref_includes_query: bool,
    ) -> int:
        """About what an evaluation needs at most, embeddings included."""
        counts = Counter(reference_labels)
        sizes = torch.tensor([*counts.values()])
        k = self.determine_k(sizes, len(reference_labels), ref_includes_query)
        num = len(reference_labels) + len(query_labels) * (not ref_includes_query)
        return (
            num * embedding_size * 4 * COPIES
            + min(BLOCK, len(query_labels) * (k + 1)) * BYTES
            + len(counts) * len(reference_labels) * 2  # which is of which class
        )

    def _search_later(
        self, query: torch.Tensor, *args: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """No neighbours yet, where PML asks for those of all queries at once."""
        return query.new_empty(0), torch.empty(0, dtype=torch.long, device=query.device)

    def _get_accuracy(
        self, function_dict: dict[str, Callable[..., Any]], **kwargs: Any
    ) -> dict[str, Any]:
        """PML's accuracies; the queries' neighbours are looked for in blocks."""
        if "knn_labels" not in kwargs:
            return {name: f(**kwargs) for name, f in function_dict.items()}
        whole = {n: f for n, f in function_dict.items() if n in CLUSTERING}
        rest = {n: f for n, f in function_dict.items() if n not in CLUSTERING}
        num, rows = len(kwargs["query"]), self._rows(len(kwargs["reference"]))
        if rows >= num or kwargs["query_labels"].dim() > 1:
            found = self._of_block(rest, 0, num, kwargs)
        else:
            found = self._of_blocks(rest, rows, kwargs)
        found |= {name: f(**kwargs) for name, f in whole.items()}
        return {name: found[name] for name in function_dict}

    def _rows(self, num_reference: int) -> int:
        """Queries of a block: FAISS keeps k numbers for each, others perhaps all."""
        in_faiss = isinstance(self.search, FaissKNN)
        return max(1, BLOCK // (self._k + 1 if in_faiss else num_reference))

    def _of_blocks(
        self, functions: dict[str, Any], rows: int, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Sums over blocks, class by class, then means as they are asked for."""
        usual = self.avg_of_avgs, self.return_per_class
        labels, mask = kwargs["query_labels"], kwargs["not_lone_query_mask"]
        classes, counts = torch.unique(labels[mask], return_counts=True)
        sums = {
            name: torch.zeros(len(classes), dtype=torch.float64) for name in functions
        }
        self.avg_of_avgs, self.return_per_class = False, True
        try:
            for start in range(0, len(labels), rows):
                block = slice(start, start + rows)
                of_block, each = torch.unique(
                    labels[block][mask[block]], return_counts=True
                )
                if not len(of_block):
                    continue
                places = torch.searchsorted(classes, of_block).cpu()
                found = self._of_block(functions, start, start + rows, kwargs)
                for name, means in found.items():
                    sums[name][places] += (
                        torch.tensor(means, dtype=torch.float64) * each.cpu()
                    )
        finally:
            self.avg_of_avgs, self.return_per_class = usual
        counts = counts.cpu()
        if not len(classes):
            return {n: pml.nan_accuracy(labels.unique(), usual[1]) for n in functions}
        if usual[1]:
            return {name: (of / counts).tolist() for name, of in sums.items()}
        if usual[0]:
            return {name: (of / counts).mean().item() for name, of in sums.items()}
        return {name: (of.sum() / counts.sum()).item() for name, of in sums.items()}

    def _of_block(
        self, functions: dict[str, Any], start: int, end: int, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Accuracies of some of the queries."""
        few = dict(kwargs)
        for name in ("query", "query_labels", "not_lone_query_mask"):
            few[name] = kwargs[name][start:end]
        if len(few["query"]) < len(kwargs["query"]):
            labels, counts = kwargs["label_counts"]
            there = torch.isin(labels, few["query_labels"])
            few["label_counts"] = labels[there], counts[there]
        distances, indices = self._neighbours(few["query"], start, kwargs)
        few["knn_labels"] = kwargs["reference_labels"][indices]
        few["knn_distances"] = distances
        usual = dict(few)
        for name in ("knn_labels", "knn_distances"):
            usual[name] = few[name][:, : self._usual_k]
        return {
            name: calculate(**(few if name in self.recall_at else usual))
            for name, calculate in functions.items()
        }

    def _neighbours(
        self, query: torch.Tensor, start: int, kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        reference, itself = kwargs["reference"], kwargs["ref_includes_query"]
        if not itself or len(query) == len(kwargs["query"]):
            found: Any = self.search(query, self._k, reference, itself)
            return found
        # The functions take the queries for the first references.
        distances, indices = self.search(query, self._k + 1, reference, False)
        distances, indices = return_results(distances, indices - start, True)
        return distances, indices + start

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
