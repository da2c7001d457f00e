"""Accuracies of any number of queries, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_metric_learning.utils import accuracy_calculator as pml
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.inference import FaissKNN

BLOCK = 1 << 22  # neighbours, or distances, that are kept at a time
BYTES = 64  # that PML's metrics need for a neighbour
COMPARED = 1 << 26  # classes of queries with references, at a time
COPIES = 4  # of the embeddings: the tester's, as first queries, and in the index


class InBlocks(pml.AccuracyCalculator):
    """PML's, a block of queries at a time where all of them would need much memory.

    Where all fit into one block, numbers are PML's to the last digit.
    """

    knn_func: Any
    avg_of_avgs: bool
    return_per_class: bool
    _all_counts: torch.Tensor | None = None  # while there are blocks

    def determine_k(
        self, bin_counts: torch.Tensor, num_reference: int, ref_includes_query: bool
    ) -> int:
        counts = bin_counts if self._all_counts is None else self._all_counts
        k: int = super().determine_k(counts, num_reference, ref_includes_query)
        return k

    def get_accuracy(
        self,
        query: Any,
        query_labels: Any,
        reference: Any = None,
        reference_labels: Any = None,
        ref_includes_query: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> dict[str, Any]:
        if reference is None:
            reference, reference_labels, ref_includes_query = query, query_labels, True
        whole = query, query_labels, reference, reference_labels, ref_includes_query
        few = [c_f.numpy_to_torch(x).to(self.device) for x in whole[:4]]
        labels, counts = torch.unique(few[3], return_counts=True)
        counts = counts[torch.isin(labels, few[1])]
        rows = len(query)
        if len(counts) and few[1].dim() == 1:
            k = self.determine_k(counts, len(reference), ref_includes_query)
            rows = self._rows(k, len(counts), len(reference))
        if rows >= len(query):
            found: dict[str, Any] = super().get_accuracy(*whole, include, exclude)
            return found
        names = list(self.get_function_dict(include, exclude))
        clustering = [name for name in names if name in self.requires_clustering()]
        others = [name for name in names if name not in clustering]
        found = super().get_accuracy(*whole, clustering) if clustering else {}
        self._all_counts = counts
        usual = self.avg_of_avgs, self.return_per_class
        self.avg_of_avgs, self.return_per_class = False, True
        try:
            sums, sizes = self._sums(few, ref_includes_query, rows, others)
        finally:
            self._all_counts = None
            self.avg_of_avgs, self.return_per_class = usual
        for name, of_class in sums.items():
            if self.return_per_class:
                found[name] = (of_class / sizes).tolist()
            elif self.avg_of_avgs:
                found[name] = (of_class / sizes).mean().item()
            else:
                found[name] = (of_class.sum() / sizes.sum()).item()
        self.curr_function_dict = self.get_function_dict(include, exclude)
        return {name: found[name] for name in names}

    def _rows(self, k: int, num_classes: int, num_reference: int) -> int:
        """Queries that are searched for at a time.

        For each FAISS keeps k neighbours, others may keep all; and PML compares all
        classes of the queries with all references.
        """
        rows = BLOCK // (
            k + 1 if isinstance(self.knn_func, FaissKNN) else num_reference
        )
        if num_classes * num_reference > COMPARED:
            rows = min(rows, COMPARED // num_reference)
        return max(1, rows)

    def _sums(
        self,
        whole: list[torch.Tensor],
        ref_includes_query: bool,
        rows: int,
        include: list[str],
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Of each accuracy, by class, over all blocks; and how many queries they have.

        Only of classes that have something to find.
        """
        query, labels, reference, reference_labels = whole
        classes, inverse = torch.unique(labels, return_inverse=True)
        sizes = torch.zeros(len(classes), dtype=torch.float64)
        sums = {name: torch.zeros_like(sizes) for name in include}
        found_in, counts = torch.unique(reference_labels, return_counts=True)
        able = torch.isin(labels, found_in[counts > int(ref_includes_query)])
        for start in range(0, len(query), rows):
            block = slice(start, start + rows)
            if not able[block].any():
                continue
            places, each = torch.unique(
                inverse[block][able[block]].cpu(), return_counts=True
            )
            given = [query[block], labels[block], reference, reference_labels]
            if ref_includes_query:  # PML has queries first
                given[2:] = [
                    torch.cat([x[block], x[:start], x[start + rows :]])
                    for x in (reference, reference_labels)
                ]
            means = super().get_accuracy(*given, ref_includes_query, include)
            sizes[places] += each
            for name in include:
                sums[name][places] += each * torch.tensor(
                    means[name], dtype=torch.float64
                )
        there = sizes > 0
        return {name: of[there] for name, of in sums.items()}, sizes[there]

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
            + min(COMPARED, len(counts) * len(reference_labels)) * 9  # as int64, too
        )
