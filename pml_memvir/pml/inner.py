"""What is asked of an inner loss beside its value: logits, by its own methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch

# Of a loss that is a softmax over classes, embeddings (B, D) and labels (B,): logits
# (B, C), with the margin at the labels. Without labels there is no margin.
Logits = Callable[[Any, torch.Tensor, Optional[torch.Tensor]], torch.Tensor]


def normalized_softmax(
    loss: Any, embeddings: torch.Tensor, labels: Optional[torch.Tensor]
) -> Any:
    return loss.get_logits(embeddings)


def large_margin(
    loss: Any, embeddings: torch.Tensor, labels: Optional[torch.Tensor]
) -> Any:
    """Of CosFace, ArcFace and SphereFace, too, each by its own methods."""
    cosine = loss.get_cosine(embeddings)
    if labels is not None:
        index = labels.unsqueeze(1)
        own = cosine.gather(1, index).squeeze(1)
        own = loss.modify_cosine_of_target_classes(own).to(cosine.dtype)
        cosine = cosine.scatter(1, index, own.unsqueeze(1))
    return loss.scale_logits(cosine, embeddings)


def proxy_nca(
    loss: Any, embeddings: torch.Tensor, labels: Optional[torch.Tensor]
) -> Any:
    sign = 1 if loss.distance.is_inverted else -1
    return sign * loss.softmax_scale * loss.get_logits(embeddings)


def soft_triple(
    loss: Any, embeddings: torch.Tensor, labels: Optional[torch.Tensor]
) -> Any:
    logits = loss.get_logits(embeddings)
    if labels is not None:
        index = labels.unsqueeze(1)
        logits = logits.scatter(1, index, logits.gather(1, index) - loss.margin)
    return loss.la * logits


def has_plain_cross_entropy(loss: Any) -> bool:
    """Whether it is the one that losses come with, or there is none to be replaced."""
    module = getattr(loss, "cross_entropy", None)
    return module is None or (
        type(module) is torch.nn.CrossEntropyLoss
        and module.weight is None
        and module.ignore_index == -100
        and module.label_smoothing == 0
        and module.reduction == "none"
    )


def with_attributes(
    loss: torch.nn.Module,
    attributes: dict[str, Any],
    function: Callable[..., Any],
    *arguments: Any,
) -> Any:
    """What a function returns while a loss has these attributes, by name or path.

    In the instances' `__dict__` they hide parameters and submodules of the same name,
    which stay where they are; `loss.W = tensor` would raise.
    """
    places = [(*_place(loss, path), value) for path, value in attributes.items()]
    hidden = [(where, name, where[name]) for where, name, _ in places if name in where]
    try:
        try:
            for where, name, value in places:
                where[name] = value
            return function(*arguments)
        finally:
            _put_back(places, hidden)
    except BaseException:  # an interrupt may have come before that
        _put_back(places, hidden)
        raise


def _place(loss: torch.nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """Where an attribute of the loss or, by path, of a part of it is."""
    part, _, name = path.rpartition(".")
    return loss.get_submodule(part).__dict__, name


def _put_back(places: list[Any], hidden: list[Any]) -> None:
    for where, name, _ in places:
        where.pop(name, None)
    for where, name, value in hidden:
        where[name] = value
