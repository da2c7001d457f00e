"""A loss over actual and virtual classes together, in two ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from .inner import number_of, with_attributes
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
class Snapshot:
    """What a step leaves behind.

    Attributes:
        class_weights, embeddings, labels: (C K, D), (B, D) and (B,).
        targets: (B,), its rows' logits of their own classes; empty if there are none.
        lse: by step, log-sum-exps (B,) of its rows over that step's class weights.
        settings: a number for those of the loss that the last two depend on.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    lse: dict[int, torch.Tensor]
    settings: int

    def to(self, device: torch.device) -> Snapshot:
        """The same on a device."""
        if self.labels.device == device:
            return self
        tensors = (self.class_weights, self.embeddings, self.labels, self.targets)
        lse = {step: of_rows.to(device) for step, of_rows in self.lse.items()}
        w, x, y, targets = (tensor.to(device) for tensor in tensors)
        return Snapshot(w, x, y, targets, lse, self.settings)


Notes = Tuple[torch.Tensor, Dict[int, torch.Tensor], int]  # the last three of these


def row_softmax(
    loss: Any,
    spec: LossSpec,
    step: int,
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices_tuple: Any,
    past: dict[int, Snapshot],
) -> tuple[Any, Notes, dict[int, torch.Tensor]]:
    """The same, at O(N), of a loss that has logits.

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
    settings, met = number_of(loss), past.values()
    if any(v.settings != settings for v in met):
        _renew(loss, spec, past, settings)
    logits = _logits(loss, spec, embeddings, labels)
    targets = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    lse, of_met = {step: logits.logsumexp(dim=1)}, {}
    all_embeddings = torch.cat(
        [embeddings, *(v.embeddings.to(embeddings) for v in met)]
    )
    if past:
        logits = _logits_over(loss, spec, embeddings, list(met))
        over_old = logits.view(len(labels), len(past), -1).logsumexp(dim=2)
        lse.update(zip(past, over_old.unbind(dim=1)))
        of_rows = _logits(loss, spec, all_embeddings[len(labels) :].detach())
        sizes = [len(v.labels) for v in met]
        of_met = dict(zip(past, torch.split(of_rows.logsumexp(dim=1), sizes)))
    losses = torch.stack(list(lse.values())).logsumexp(dim=0) - targets
    weights = lmu.convert_to_weights(
        indices_tuple, labels, losses.dtype, spec.weighs_anchors_only
    )
    all_losses = [losses * weights]
    for v, now in of_met.items():
        kept = [past[v].lse[w] for w in past]
        total = torch.stack([now, *kept]).logsumexp(dim=0)
        all_losses.append(total - past[v].targets)
    losses = torch.cat(all_losses)
    indices = c_f.torch_arange_from_size(losses)
    loss_dict: dict[str, Any] = {
        "loss": {"losses": losses, "indices": indices, "reduction_type": "element"}
    }
    loss.add_weight_regularization_to_loss_dict(loss_dict, spec.class_weights(loss))
    loss.add_embedding_regularization_to_loss_dict(loss_dict, embeddings)
    all_labels = torch.cat([labels, *(v.labels for v in met)])
    value = loss.reducer(loss_dict, all_embeddings, all_labels)
    lse, of_met = ({w: x.detach() for w, x in some.items()} for some in (lse, of_met))
    return value, (targets.detach(), lse, settings), of_met


@torch.no_grad()
def _renew(loss: Any, spec: LossSpec, past: dict[int, Snapshot], settings: int) -> None:
    """All notes of snapshots that meet, for a loss that has other settings now."""
    for v, snapshot in past.items():
        lse, rows = {}, snapshot.embeddings.to(spec.get(loss).dtype)
        for w, other in past.items():
            logits = _logits_over(
                loss, spec, rows, [other], snapshot.labels if v == w else None
            )
            lse[w] = logits.logsumexp(dim=1)
            if v == w:
                targets = logits.gather(1, snapshot.labels.unsqueeze(1)).squeeze(1)
        snapshot.settings = 0  # until all of it is there
        snapshot.targets, snapshot.lse = targets, lse
        snapshot.settings = settings


def _logits_over(
    loss: Any,
    spec: LossSpec,
    embeddings: torch.Tensor,
    snapshots: list[Snapshot],
    labels: Optional[torch.Tensor] = None,
) -> Any:
    """(B, n C), over the class weights of n snapshots."""
    weights = torch.cat([v.class_weights for v in snapshots])
    attributes = spec.replacing(loss, weights, with_actual=False)
    return with_attributes(loss, attributes, _logits, loss, spec, embeddings, labels)


def _logits(
    loss: Any,
    spec: LossSpec,
    embeddings: torch.Tensor,
    labels: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """(B, C), in float32 at least; without labels there is no margin."""
    assert spec.logits is not None
    logits: torch.Tensor = spec.logits(loss, embeddings, labels)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
