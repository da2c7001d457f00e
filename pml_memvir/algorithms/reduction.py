"""From the losses of single rows to one number, by the inner loss's reducer."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import reducers

# Reducers whose value is linear in the losses: its gradient is known before they are.
_LINEAR = (
    reducers.ClassWeightedReducer,
    reducers.MeanReducer,
    reducers.SumReducer,
)
_ELEMENTWISE = (*_LINEAR, reducers.AvgNonZeroReducer, reducers.ThresholdReducer)


class Reduction:
    """Reduces actual and virtual rows together.

    Args:
        loss: the inner loss, for which `is_supported` is true.
        embeddings: (B, D), those of the actual rows.
        labels: (R,), of all rows, each 0 to C-1.
        weights: (R,), of all rows: a miner's for actual ones, else 1.
    """

    def __init__(
        self,
        loss: Any,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
    ) -> None:
        self.loss = loss
        self.reducer: Any = _of_rows(loss.reducer)
        self.embeddings = embeddings
        self.labels = labels
        self.weights = weights

    @staticmethod
    def is_supported(reducer: Any) -> bool:
        """Whether it is one of PML's own that reduce row by row, and plainly so."""
        if type(reducer) is reducers.MultipleReducers:
            parts = [*reducer.reducers.values(), reducer.default_reducer]
            return all(Reduction.is_supported(part) for part in parts)
        if type(reducer) is reducers.PerAnchorReducer:
            return Reduction.is_supported(reducer.reducer)
        return type(reducer) in _ELEMENTWISE

    @property
    def is_linear(self) -> bool:
        reducer = self.reducer
        while type(reducer) is reducers.PerAnchorReducer:
            reducer = reducer.reducer
        return type(reducer) in _LINEAR

    def __call__(self, losses: torch.Tensor) -> torch.Tensor:
        """The reduced losses (R,)."""
        loss_dict = {
            "loss": {
                "losses": losses * self.weights,
                "indices": torch.arange(len(losses), device=losses.device),
                "reduction_type": "element",
            }
        }
        value: torch.Tensor = self.reducer(loss_dict, self.embeddings, self.labels)
        return value

    def gradient(self, losses: torch.Tensor) -> torch.Tensor:
        """d value / d losses (R,), at these losses; where linear, at any."""
        with torch.enable_grad():
            losses = losses.detach().requires_grad_()
            value = self(losses)
            if not value.requires_grad:
                return torch.zeros_like(losses)
            (gradient,) = torch.autograd.grad(value, losses, allow_unused=True)
        return torch.zeros_like(losses) if gradient is None else gradient


def regularisation(
    loss: Any, weights: torch.Tensor, embeddings: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor | float:
    """What regularisers add for class weights (C K, D) and embeddings (B, D)."""
    loss_dict: dict[str, Any] = {}
    loss.add_weight_regularization_to_loss_dict(loss_dict, weights)
    loss.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
    return loss.reducer(loss_dict, embeddings, labels) if loss_dict else 0.0


def _of_rows(reducer: Any) -> Any:
    """Of several reducers the one for the losses of rows."""
    if type(reducer) is reducers.MultipleReducers:
        parts = reducer.reducers
        return parts["loss"] if "loss" in parts else reducer.default_reducer
    return reducer
