"""A step by `proxy_anchor`: from PML's loss and the memory to its problem, and back."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import distances, reducers
from pytorch_metric_learning.losses import ProxyAnchorLoss
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..class_weights import ClassWeightLayout
from ..form import Form, key_of, unit
from ..memory import SnapshotMemory
from ..snapshots import Notes, Row
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
    def key(self) -> int:
        return key_of(self.loss, float(self.loss.alpha), float(self.loss.margin))

    @property
    def memory_form(self) -> Form:
        distance, classes = self.loss.distance, self.layout.num_classes(self.loss)
        p = float(distance.p) if distance.normalize_embeddings else None
        return Form(self.name, classes, 1, p, p)

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
                row = memory.renew(slot, self.key, self.renew_notes)
            form = self.memory_form
            rows = unit(embeddings, form.embeddings)
            proxies = unit(loss.proxies, form.class_weights)
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
            value, notes_of_step, insight = proxy_anchor(rows, proxies, problem)
            value = value + regularisation(loss, loss.proxies, embeddings, labels)
        rows = rows.detach()

        def notes() -> Notes:
            made = notes_of_step(self.key)
            if row.own_class_weights is None:
                return made
            return self.notes_of(rows, labels, row, made)

        return Outcome(value, proxies.detach(), rows, notes, insight)

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
    def notes_of(
        self, rows: torch.Tensor, labels: torch.Tensor, row: Row, of_step: Notes
    ) -> Notes:
        """Those of a snapshot whose class weights are an earlier one's.

        It costs N + 1 blocks that no step computes else: these class weights against
        its embeddings, and against those of the snapshots it met.

        Args:
            of_step: those that it would have with its own class weights.
        """
        assert row.own_class_weights is not None
        proxies = row.own_class_weights
        # Its embeddings, and no longer its proxies, are met by those of other cells.
        of_others, against = of_step.of_others, of_step.against.new_zeros(
            of_step.against.shape
        )
        with torch.autocast(rows.device.type, enabled=False):
            positive, against[:, row.column] = self.blocks(proxies, rows, labels)
            for b in row.filled:
                met = row.embeddings[b, : row.batch_sizes[b]]
                against[:, b] = self.blocks(proxies, met)[1]
        return Notes(positive, against, of_others, of_step.key)

    @torch.no_grad()
    def renew_notes(self, row: Row) -> None:
        """All blocks of virtual proxies and embeddings from scratch, in place."""
        for a in row.filled:
            for b in row.filled:
                size = row.batch_sizes[b]
                its_own = row.labels[a, :size] if a == b else None
                positive, row.against[a, :, b] = self.blocks(
                    row.class_weights[a], row.embeddings[b, :size], its_own
                )
                if a == b:
                    row.own[a] = positive

    def blocks(
        self,
        proxies: torch.Tensor,
        rows: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of proxies (C, D) over embeddings (B, D): positive terms, and log-sum-exps.

        Without labels the embeddings are of other classes, and nothing is positive.
        """
        dtype = self.loss.proxies.dtype
        cosine = rows.to(dtype) @ proxies.to(dtype).t()
        cosine = cosine.to(torch.promote_types(dtype, torch.float32))
        alpha, margin = float(self.loss.alpha), float(self.loss.margin)
        negative = alpha * (margin + cosine)
        if labels is None:
            return negative.new_zeros(len(proxies)), negative.logsumexp(dim=0)
        same = torch.nn.functional.one_hot(labels, len(proxies)).bool()
        positive = (alpha * (margin - cosine)).masked_fill_(~same, -torch.inf)
        negative.masked_fill_(same, -torch.inf)
        return _softplus_of_sum(positive), _softplus_of_sum(negative)


def _softplus_of_sum(exponents: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of exp) over rows."""
    return torch.nn.functional.softplus(exponents.logsumexp(dim=0))


def _of_term(reducer: Any, name: str) -> Any:
    """The reducer of the positive or the negative term."""
    parts = reducer.reducers
    key = f"{name}_loss"
    return parts[key] if key in parts else reducer.default_reducer
