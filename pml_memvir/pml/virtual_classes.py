"""A loss over actual and virtual classes together, in two ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from .inner import with_attributes
from .specs import LossSpec


def concatenation(
    loss: torch.nn.Module,
    spec: LossSpec,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices_tuple: Any,
    virtual_weights: torch.Tensor,
    virtual_embeddings: torch.Tensor,
    virtual_labels: torch.Tensor,
) -> Any:
    """Any loss: one call of it on tensors that have grown, at O(N^2).

    Naive equivalent, for a loss with more classes than the batch needs:

        loss.W = cat([W, virtual_weights])
        loss(cat([embeddings, virtual_embeddings]), cat([labels, virtual_labels]))

    Args:
        loss: the inner loss, C classes of K centres.
        spec: where it keeps its class weights.
        embeddings: (B, D).
        labels: (B,), 0 to C-1.
        indices_tuple: a miner's output over the B embeddings, or None.
        virtual_weights: (n C K, D), class weights of n snapshots.
        virtual_embeddings: (R, D).
        virtual_labels: (R,), C to (n+1) C - 1.

    Returns:
        What the loss's reducer returns for B actual and all virtual rows together.
    """
    spec.before_loss(loss, embeddings)
    num_weights, num_classes = len(spec.class_weights(loss)), spec.num_classes(loss)
    attributes = {
        **spec.replacing(loss, virtual_weights, with_actual=True),
        **_of_actual(loss, num_weights, len(labels), num_classes),
    }
    arguments = (
        torch.cat([embeddings, virtual_embeddings.to(embeddings.dtype)]),
        torch.cat([labels, virtual_labels]),
        _full_weight(indices_tuple, len(labels), len(virtual_labels)),
    )
    return with_attributes(loss, attributes, loss, *arguments)


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

    `convert_to_weights` divides how often a row occurs by how often the most
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


@dataclass
class Notes:
    """What a step has computed, detached, for later ones.

    Attributes:
        targets: (B,), logits of its rows' own classes.
        lse: by step, log-sum-exps (B,) of its rows over that step's class weights.
    """

    targets: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    lse: dict[int, torch.Tensor] = field(default_factory=dict)


@dataclass
class Snapshot:
    """What a step leaves behind.

    Attributes:
        class_weights: (C K, D).
        embeddings: (B, D).
        labels: (B,).
        notes: of its rows. Later steps add their class weights.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    notes: Notes


def row_softmax(
    loss: Any,
    spec: LossSpec,
    step: int,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices_tuple: Any,
    past: dict[int, Snapshot],
) -> tuple[Any, Notes, dict[int, torch.Tensor]]:
    """The same of a loss that has logits, at O(N).

    Write lse(a, b) for the log-sum-exps of the logits of step a's rows over step b's
    class weights. With b older than a they were computed by step a, with a older than b
    by step b, which met a, and otherwise by step a itself. So step t needs

        its own rows: logsumexp(lse(t, t), lse(t, v) for v in past) - targets
        rows of v: logsumexp(lse(v, t), kept lse(v, w) for w in past) - targets

    Args:
        step: t.
        embeddings: (B, D).
        labels: (B,), 0 to C-1.
        indices_tuple: a miner's output over the B embeddings, or None.
        past: the snapshots that it meets, by their steps.

    Returns:
        what the loss's reducer returns for B actual and all virtual rows together; what
        is to be kept with this step's rows; and lse(v, t) by v.
    """
    spec.before_loss(loss, embeddings)
    logits = _logits(loss, spec, embeddings, labels)
    targets = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    lse, of_met, met = {step: logits.logsumexp(dim=1)}, {}, past.values()
    if past:
        attributes = spec.replacing(
            loss, torch.cat([v.class_weights for v in met]), with_actual=False
        )
        logits = with_attributes(loss, attributes, _logits, loss, spec, embeddings)
        over_old = logits.view(len(labels), len(past), -1).logsumexp(dim=2)
        lse.update(zip(past, over_old.unbind(dim=1)))
        rows = torch.cat([v.embeddings for v in met]).to(embeddings)
        of_rows = _logits(loss, spec, rows).logsumexp(dim=1)
        sizes = [len(v.labels) for v in met]
        of_met = dict(zip(past, torch.split(of_rows, sizes)))
    losses = torch.stack(list(lse.values())).logsumexp(dim=0) - targets
    weights = lmu.convert_to_weights(
        indices_tuple, labels, losses.dtype, spec.weighs_anchors_only
    )
    all_losses = [losses * weights]
    for v, now in of_met.items():
        notes = past[v].notes
        kept = [notes.lse[w].to(now) for w in past]
        total = torch.stack([now, *kept]).logsumexp(dim=0)
        all_losses.append(total - notes.targets.to(now))
    all_labels = torch.cat([labels, *(v.labels.to(labels) for v in met)])
    losses = torch.cat(all_losses)
    indices = c_f.torch_arange_from_size(losses)
    loss_dict: dict[str, Any] = {
        "loss": {"losses": losses, "indices": indices, "reduction_type": "element"}
    }
    loss.add_weight_regularization_to_loss_dict(loss_dict, spec.class_weights(loss))
    loss.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
    value = loss.reducer(loss_dict, embeddings, all_labels)
    return value, Notes(targets.detach(), _detached(lse)), _detached(of_met)


def _logits(
    loss: Any,
    spec: LossSpec,
    embeddings: torch.Tensor,
    labels: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """(B, C), in float32 at least; without labels there is no margin."""
    assert spec.logits is not None
    logits = spec.logits(loss, embeddings, labels)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _detached(tensors: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    return {step: tensor.detach() for step, tensor in tensors.items()}
