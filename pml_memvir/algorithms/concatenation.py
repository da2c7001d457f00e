"""MemVir for any loss: one call of it on tensors that have grown.

Costs (N+1)^2 B C D a step. It is the reference for every faster algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..class_weights import ClassWeightLayout
from ..form import Form
from ..memory import SnapshotMemory
from ..snapshots import Snapshots
from .outcome import Outcome


class Concatenation:
    """Any loss; the memory holds embeddings and class weights as they are."""

    name = "concatenation"

    def __init__(self, loss: torch.nn.Module, layout: ClassWeightLayout) -> None:
        self.loss = loss
        self.layout = layout

    @property
    def memory_form(self) -> Form:
        """As they are: right for any loss with so many class weights."""
        classes = self.layout.num_classes(self.loss)
        return Form(self.name, classes, self.layout.num_centers(self.loss))

    def __call__(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
        memory: SnapshotMemory,
        slot: int,
    ) -> Outcome:
        virtual = memory.snapshots(slot)
        if virtual is None:
            value = self.loss(embeddings, labels, indices_tuple)
        else:
            value = concatenation(
                self.loss, self.layout, embeddings, labels, indices_tuple, virtual
            )
        return Outcome(value, self.layout.rows(self.loss), embeddings.detach())


def concatenation(
    loss: torch.nn.Module,
    layout: ClassWeightLayout,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices_tuple: Any,
    virtual: Snapshots,
) -> Any:
    """The inner loss over actual and virtual embeddings and class weights.

    Naive equivalent, for a loss with more classes than the batch needs:

        loss.W = cat([W, *virtual.class_weights])
        loss(cat([embeddings, *virtual.embeddings]), cat([labels, *shifted labels]))

    Args:
        loss: the inner loss, C classes of K centres.
        layout: where it keeps its class weights.
        embeddings: (B, D).
        labels: (B,), 0 to C-1.
        indices_tuple: a miner's output over the B embeddings, or None.
        virtual: n snapshots.

    Returns:
        What the loss's reducer returns for B actual and all virtual rows together.
    """
    layout.before_loss(loss, embeddings)
    num_classes = layout.num_classes(loss)
    virtual_embeddings, virtual_labels = virtual.flat(num_classes)
    batch_size, num_virtual = len(labels), len(virtual_labels)
    attributes = {
        **layout.grown(loss, virtual.class_weights.flatten(0, 1)),
        **_only_actual_rows(loss, len(layout.rows(loss)), batch_size),
        **_labels_folded(loss, num_classes),
    }
    arguments = (
        torch.cat([embeddings, virtual_embeddings.to(embeddings.dtype)]),
        torch.cat([labels, virtual_labels]),
        _full_weight(indices_tuple, batch_size, num_virtual),
    )
    places = [(*_place(loss, path), value) for path, value in attributes.items()]
    hidden = [(where, name, where[name]) for where, name, _ in places if name in where]
    try:
        try:
            # In the instances' `__dict__` they hide parameters and submodules of the
            # same name, which stay where they are; `loss.W = tensor` would raise.
            for where, name, value in places:
                where[name] = value
            return loss(*arguments)
        finally:
            _put_back(places, hidden)
    except BaseException:  # an interrupt may have come before that
        _put_back(places, hidden)
        raise


def _place(loss: torch.nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """Where an attribute of the loss or, by path, of a part of it is."""
    part, _, name = path.rpartition(".")
    return loss.get_submodule(part).__dict__, name


_Places = list[tuple[dict[str, Any], str, Any]]


def _put_back(places: _Places, hidden: _Places) -> None:
    for where, name, _ in places:
        where.pop(name, None)
    for where, name, value in hidden:
        where[name] = value


def _only_actual_rows(
    loss: torch.nn.Module, num_weights: int, batch_size: int
) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Regularisers see actual class weights and actual embeddings, which come first."""
    sizes = {
        "weight_regularization_loss": num_weights,
        "embedding_regularization_loss": batch_size,
    }

    def first(function: Callable[[torch.Tensor], Any], size: int) -> Any:
        return lambda rows: function(rows[:size])

    return {
        name: first(getattr(loss, name), size)
        for name, size in sizes.items()
        if hasattr(loss, name)
    }


def _labels_folded(
    loss: torch.nn.Module, num_classes: int
) -> dict[str, Callable[..., Any]]:
    """Reducers see labels 0 to C-1: some index per-class tables by them."""
    reducer: Any = getattr(loss, "reducer", None)
    if reducer is None:
        return {}

    def folded(loss_dict: Any, embeddings: Any, labels: torch.Tensor) -> Any:
        return reducer(loss_dict, embeddings, labels % num_classes)

    return {"reducer": folded}


def _full_weight(indices_tuple: Any, batch_size: int, num_virtual: int) -> Any:
    """Extend a miner's output so that virtual rows weigh 1, actual ones as before.

    PML's `convert_to_weights` divides how often a row occurs by how often the most
    frequent one does; some losses count all of the tuple, some only anchors. So each
    virtual row must occur as often as the most frequent row does by either count.
    """
    if indices_tuple is None or all(len(x) == 0 for x in indices_tuple):
        return indices_tuple  # every row weighs 1

    def most(indices: torch.Tensor) -> int:
        return int(torch.bincount(indices).max()) if len(indices) else 0

    as_anchor = most(lmu.get_anchors(indices_tuple))
    as_other = most(torch.cat(list(indices_tuple))) - as_anchor
    first, second, *rest = indices_tuple
    rows = torch.arange(batch_size, batch_size + num_virtual, device=first.device)
    return (
        torch.cat([first, rows.repeat(as_anchor)]),
        torch.cat([second, rows.repeat(as_other)]),
        *rest,
    )
