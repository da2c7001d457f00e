"""MemVir for any loss: one call of it on tensors that have grown.

Costs (N+1)^2 B C D a step. It is the reference for the exact algorithm at O(N).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from ..core.snapshots import Snapshots
from .specs import LossSpec


def concatenation(
    loss: torch.nn.Module,
    spec: LossSpec,
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
        spec: where it keeps its class weights.
        embeddings: (B, D).
        labels: (B,), 0 to C-1.
        indices_tuple: a miner's output over the B embeddings, or None.
        virtual: n snapshots.

    Returns:
        What the loss's reducer returns for B actual and all virtual rows together.
    """
    spec.before_loss(loss, embeddings)
    num_classes = spec.num_classes(loss)
    virtual_embeddings, virtual_labels = virtual.flat(num_classes)
    batch_size, num_virtual = len(labels), len(virtual_labels)
    attributes = {
        **spec.grown(loss, virtual.class_weights.flatten(0, 1)),
        **_of_actual(loss, len(spec.class_weights(loss)), batch_size, num_classes),
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


def _of_actual(
    loss: torch.nn.Module, num_weights: int, batch_size: int, num_classes: int
) -> dict[str, Callable[..., Any]]:
    """Regularisers see actual class weights and actual embeddings, which come first,
    and reducers labels 0 to C-1: some index per-class tables by them."""
    reducer: Any = getattr(loss, "reducer", None)
    sizes = {
        "weight_regularization_loss": num_weights,
        "embedding_regularization_loss": batch_size,
    }

    def first(function: Callable[[torch.Tensor], Any], size: int) -> Any:
        return lambda vectors: function(vectors[:size])

    def folded(loss_dict: Any, embeddings: Any, labels: torch.Tensor) -> Any:
        return reducer(loss_dict, embeddings, labels % num_classes)

    functions = {
        name: first(getattr(loss, name), size)
        for name, size in sizes.items()
        if hasattr(loss, name)
    }
    return functions if reducer is None else {**functions, "reducer": folded}


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
