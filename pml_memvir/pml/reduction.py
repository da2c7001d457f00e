"""From log-sum-exps and terms to one number, by the inner loss's reducer."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from pytorch_metric_learning import reducers
from pytorch_metric_learning.losses import ProxyAnchorLoss

from ..core.kernel import Kernel
from ..core.reduce import Reduce, Weights
from ..core.snapshots import Past

# Reducers whose value is linear in the losses: its gradient is known before they are.
_LINEAR = (
    reducers.ClassWeightedReducer,
    reducers.DivisorReducer,
    reducers.MeanReducer,
    reducers.SumReducer,
)
_KNOWN = (*_LINEAR, reducers.AvgNonZeroReducer, reducers.ThresholdReducer)


def check(loss: torch.nn.Module) -> None:
    """Refuse what virtual classes would not fit.

    That is ClassWeightedReducer under ProxyAnchorLoss, whose losses are no rows, and a
    cross-entropy that has something for each class.
    """
    entropy = getattr(loss, "cross_entropy", None)
    if isinstance(entropy, torch.nn.CrossEntropyLoss):
        if entropy.weight is not None or entropy.ignore_index >= 0:
            raise ValueError(
                "virtual classes have neither a weight nor an ignore_index, as the "
                f"cross_entropy of {type(loss).__name__} has for the loss's classes: "
                "use PML's ClassWeightedReducer, or leave such rows out of the batch"
            )
    reducer = getattr(loss, "reducer", None)
    if isinstance(loss, ProxyAnchorLoss) and isinstance(reducer, torch.nn.Module):
        if any(isinstance(m, reducers.ClassWeightedReducer) for m in reducer.modules()):
            raise ValueError(
                "ClassWeightedReducer does not weigh classes under ProxyAnchorLoss, "
                "whose losses are one a class, not one a row: use another reducer"
            )


def is_supported(kernel: Kernel, reducer: Any) -> bool:
    """Whether it is one of PML's own that reduce loss by loss, and plainly so."""
    if kernel.is_turned:
        return type(reducer) is reducers.MultipleReducers and all(
            type(_of_term(reducer, name)) in _KNOWN for name in ("pos_loss", "neg_loss")
        )
    if type(reducer) is reducers.MultipleReducers:
        parts = [*reducer.reducers.values(), reducer.default_reducer]
        return all(is_supported(kernel, part) for part in parts)
    reducer = _innermost(reducer)
    return type(reducer) in _KNOWN and type(reducer) is not reducers.DivisorReducer


class OfEmbeddings(Reduce):
    """A softmax's losses are log-sum-exps less target logits.

    Args:
        embeddings, labels: (B, D) and (B,), the actual ones.
        past: what is met.
        weights: (B,), a miner's; virtual ones have 1. None: all are 1.
    """

    def __init__(
        self,
        loss: Any,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        past: Past,
        weights: torch.Tensor | None,
    ) -> None:
        self.reducer: Any = loss.reducer
        if type(self.reducer) is reducers.MultipleReducers:
            self.reducer = _of_term(self.reducer, "loss")
        self.is_linear = type(_innermost(self.reducer)) in _LINEAR
        # By far the most frequent; what PML's reducer returns, in one operation.
        self.is_mean = type(self.reducer) is reducers.MeanReducer and weights is None
        self.embeddings, self.labels, self.weights = embeddings, labels, weights
        if not self.is_mean:
            virtual = past.real_labels.to(labels)
            self.labels = torch.cat([labels, virtual])
            if weights is not None:
                self.weights = torch.cat([weights, weights.new_ones(len(virtual))])

    def __call__(self, lse: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        losses = lse - terms
        if self.is_mean:
            return losses.mean()
        if self.weights is not None:
            losses = losses * self.weights
        value: torch.Tensor = self.reducer(
            {"loss": _info(losses)}, self.embeddings, self.labels
        )
        return value

    def gradient(self, lse: torch.Tensor, terms: torch.Tensor) -> Weights:
        if not self.is_mean:
            return super().gradient(lse, terms)
        return 1 / len(lse), -1 / len(lse)


class OfProxies(Reduce):
    """Proxy-Anchor reduces positive and negative terms by themselves."""

    def __init__(
        self, loss: Any, embeddings: torch.Tensor, labels: torch.Tensor, past: Past
    ) -> None:
        self.reducer, self.num_classes = loss.reducer, len(loss.proxies)
        self.embeddings, self.labels, self.past = embeddings, labels, past
        names = "pos_loss", "neg_loss"
        self.reducers = {name: _of_term(self.reducer, name) for name in names}
        self.is_linear = all(type(r) in _LINEAR for r in self.reducers.values())

    def __call__(self, lse: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        of_term: dict[str, tuple[torch.Tensor, Any]] = {
            "pos_loss": (terms, self.num_with_positives),
            "neg_loss": (lse, len(lse)),
        }
        total: Any = 0.0
        for name, (losses, divisor) in of_term.items():
            reducer = self.reducers[name]
            if type(reducer) is reducers.DivisorReducer:
                # The same, without asking the device whether the divisor is 0.
                total = losses.sum() / divisor + total
            else:
                info = {name: {**_info(losses), "divisor": divisor}}
                total = reducer(info, self.embeddings, self.labels) + total
        value: torch.Tensor = total
        return value

    def gradient(self, lse: torch.Tensor, terms: torch.Tensor) -> Weights:
        if any(type(r) is not reducers.DivisorReducer for r in self.reducers.values()):
            return super().gradient(lse, terms)
        of_each = self.num_with_positives.to(terms.dtype).reciprocal()
        return 1 / len(lse), of_each.expand_as(terms)

    @cached_property
    def num_with_positives(self) -> torch.Tensor:
        """How many proxies have positives. A tensor: a device is not waited for."""
        past, C = self.past, self.num_classes
        cells = torch.arange(1, len(past.batch_sizes) + 1, device=past.labels.device)
        virtual = replace(past, labels=past.labels + C * cells.unsqueeze(1)).real_labels
        has = self.labels.new_zeros((len(cells) + 1) * C)
        return has.scatter_(0, torch.cat([self.labels, virtual.to(has)]), 1).sum()


def regularisation(
    loss: Any, weights: torch.Tensor, embeddings: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor | float:
    """What regularisers add for class weights (C K, D) and embeddings (B, D)."""
    loss_dict: dict[str, Any] = {}
    loss.add_weight_regularization_to_loss_dict(loss_dict, weights)
    loss.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
    return loss.reducer(loss_dict, embeddings, labels) if loss_dict else 0.0


def _info(losses: torch.Tensor) -> dict[str, Any]:
    """As PML's losses hand them to their reducer."""
    indices = torch.arange(len(losses), device=losses.device)
    return {"losses": losses, "indices": indices, "reduction_type": "element"}


def _of_term(reducer: Any, name: str) -> Any:
    """Of several reducers the one for this term."""
    parts = reducer.reducers
    return parts[name] if name in parts else reducer.default_reducer


def _innermost(reducer: Any) -> Any:
    while type(reducer) is reducers.PerAnchorReducer:
        reducer = reducer.reducer
    return reducer
