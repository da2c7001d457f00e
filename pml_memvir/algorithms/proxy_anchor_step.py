"""A step by `proxy_anchor`: from PML's loss and the memory to its problem, and back."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning.losses import ProxyAnchorLoss
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..class_weights import ClassWeightLayout
from ..memory import SnapshotMemory
from ..snapshots import Key, Row
from .outcome import Outcome
from .own_forward import needs_own_forward
from .proxy_anchor import Problem, proxy_anchor
from .reduction import regularisation

_LINEAR = (reducers.DivisorReducer, reducers.MeanReducer, reducers.SumReducer)
_KNOWN = (*_LINEAR, reducers.AvgNonZeroReducer, reducers.ThresholdReducer)


class ProxyAnchor:
    """PML's ProxyAnchorLoss; see proxy_anchor.py. The memory holds unit vectors."""

    name = "proxy_anchor"

    def __init__(
        self, loss: Any, layout: ClassWeightLayout, chunk_steps: int | None
    ) -> None:
        self.loss = loss
        self.layout = layout
        self.chunk_steps = chunk_steps

    @classmethod
    def for_loss(
        cls, loss: Any, layout: ClassWeightLayout, chunk_steps: int | None
    ) -> ProxyAnchor | None:
        """The algorithm, if the loss as it is set up now is one for it."""
        if type(loss) is not ProxyAnchorLoss:
            return None
        if needs_own_forward(loss, layout.get(loss)):
            return None
        distance, reducer = loss.distance, loss.reducer
        kinds = (distances.CosineSimilarity, distances.DotProductSimilarity)
        fits = (
            type(distance) in kinds
            and distance.power == 1
            and type(reducer) is reducers.MultipleReducers
            and all(type(_of_term(reducer, n)) in _KNOWN for n in ("pos", "neg"))
        )
        return cls(loss, layout, chunk_steps) if fits else None

    @property
    def key(self) -> Key:
        distance = self.loss.distance
        normalises = float(distance.normalize_embeddings)
        return (float(self.loss.alpha), float(self.loss.margin), distance.p, normalises)

    def __call__(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
        memory: SnapshotMemory,
        slot: int,
    ) -> Outcome:
        loss = self.loss
        self.layout.before_loss(loss, embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(loss.proxies.dtype)
            row = memory.row(slot, embeddings.device)
            if row.filled and row.key != self.key:
                self.renew_notes(memory.whole_row(slot))
                memory.set_key(slot, self.key)
            rows = loss.distance.maybe_normalize(embeddings)
            proxies = loss.distance.maybe_normalize(loss.proxies)
            weights = lmu.convert_to_weights(indices_tuple, labels, embeddings.dtype)
            problem = Problem(
                labels,
                row,
                float(loss.alpha),
                float(loss.margin),
                weights - 1,
                self.reduce_to(embeddings, labels),
                all(type(_of_term(loss.reducer, n)) in _LINEAR for n in ("pos", "neg")),
                self.chunk_steps,
            )
            value, notes, insight = proxy_anchor(rows, proxies, problem)
            value = value + regularisation(loss, loss.proxies, embeddings, labels)
        kept = notes(self.key)
        return Outcome(value, proxies.detach(), rows.detach(), kept, insight)

    def reduce_to(self, embeddings: torch.Tensor, labels: torch.Tensor) -> Any:
        """PML's reducers for the two terms."""

        def reduce(
            positive: torch.Tensor,
            negative: torch.Tensor,
            with_positives: torch.Tensor,
        ) -> Any:
            terms: dict[str, tuple[torch.Tensor, Any]] = {
                "pos": (positive, with_positives),
                "neg": (negative, len(negative)),
            }
            total: Any = 0
            for name, (losses, divisor) in terms.items():
                reducer = _of_term(self.loss.reducer, name)
                if type(reducer) is reducers.DivisorReducer:
                    # The same, without asking the device whether the divisor is 0.
                    total = total + losses.sum() / divisor
                    continue
                info = {
                    "losses": losses,
                    "indices": torch.arange(len(losses), device=losses.device),
                    "reduction_type": "element",
                    "divisor": divisor,
                }
                total = total + reducer({f"{name}_loss": info}, embeddings, labels)
            return total

        return reduce

    @torch.no_grad()
    def renew_notes(self, row: Row) -> None:
        """All blocks of virtual proxies and embeddings from scratch, in place."""
        alpha, margin = float(self.loss.alpha), float(self.loss.margin)
        for a in row.filled:
            proxies = row.class_weights[a].to(row.own.dtype)
            for b in row.filled:
                size = row.batch_sizes[b]
                cosine = row.embeddings[b, :size].to(row.own.dtype) @ proxies.t()
                negative, positive = alpha * (margin + cosine), alpha * (
                    margin - cosine
                )
                if a == b:
                    labels = row.labels[a, :size]
                    same = torch.nn.functional.one_hot(labels, len(proxies)).bool()
                    row.own[a] = _softplus_of_sum(
                        positive.masked_fill(~same, -torch.inf)
                    )
                    negative = negative.masked_fill(same, -torch.inf)
                    row.against[a, :, b] = _softplus_of_sum(negative)
                else:
                    row.against[a, :, b] = negative.logsumexp(dim=0)


def _softplus_of_sum(exponents: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of exp) over rows."""
    return torch.nn.functional.softplus(exponents.logsumexp(dim=0))


def _of_term(reducer: Any, name: str) -> Any:
    """The reducer of the positive or the negative term."""
    parts = reducer.reducers
    key = f"{name}_loss"
    return parts[key] if key in parts else reducer.default_reducer
