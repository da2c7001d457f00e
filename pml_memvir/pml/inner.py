"""What is asked of an inner loss: its logits, its settings, whether it does more."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Callable, Optional

import torch
from pytorch_metric_learning.distances import (
    CosineSimilarity,
    DotProductSimilarity,
    LpDistance,
)

# Parts of a loss that its logits do not depend on.
_NOT_IN_LOGITS = ("reducer", "embedding_regularizer", "weight_regularizer")

# Of a loss that is a softmax over classes, embeddings (B, D) and labels (B,): logits
# (B, C), with the margin at the labels. Without labels there is no margin.
Labels = Optional[torch.Tensor]
Logits = Callable[[Any, torch.Tensor, Labels], torch.Tensor]


def normalized_softmax(loss: Any, embeddings: torch.Tensor, labels: Labels) -> Any:
    return loss.get_logits(embeddings)


def large_margin(loss: Any, embeddings: torch.Tensor, labels: Labels) -> Any:
    """Of CosFace, ArcFace and SphereFace, too, each by its own methods."""
    cosine = loss.get_cosine(embeddings)
    if labels is not None:
        index = labels.unsqueeze(1)
        own = cosine.gather(1, index).squeeze(1)
        own = loss.modify_cosine_of_target_classes(own).to(cosine.dtype)
        cosine = cosine.scatter(1, index, own.unsqueeze(1))
    return loss.scale_logits(cosine, embeddings)


def proxy_nca(loss: Any, embeddings: torch.Tensor, labels: Labels) -> Any:
    sign = 1 if loss.distance.is_inverted else -1
    return sign * loss.softmax_scale * loss.get_logits(embeddings)


def soft_triple(loss: Any, embeddings: torch.Tensor, labels: Labels) -> Any:
    logits = loss.get_logits(embeddings)
    if labels is not None:
        index = labels.unsqueeze(1)
        logits = logits.scatter(1, index, logits.gather(1, index) - loss.margin)
    return loss.la * logits


def is_plain_softmax(loss: Any) -> bool:
    """Whether nothing but a row and a class weight makes a logit, and the softmax is
    as the loss comes with it: by a distance and a cross-entropy that are known."""
    module = getattr(loss, "cross_entropy", None)
    kinds = CosineSimilarity, DotProductSimilarity, LpDistance
    return type(loss.distance) in kinds and (
        module is None
        or type(module) is torch.nn.CrossEntropyLoss
        and module.weight is None
        and module.ignore_index == -100
        and module.label_smoothing == 0
        and module.reduction == "none"
    )


def number_of(loss: torch.nn.Module) -> int:
    """A number for all settings that logits depend on; never 0.

    Of the loss and its parts every plain attribute, the class count, and what is in a
    tensor or array of one number, so that none can be forgotten: to make kept numbers
    anew once too often does no harm.
    """
    digest = hashlib.blake2b(repr(_plain(loss)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def _plain(module: torch.nn.Module) -> tuple[Any, ...]:
    plain = []
    attributes = {**vars(module), **module._buffers, **module._parameters}
    for name, value in attributes.items():
        if hasattr(value, "item") and math.prod(value.shape) == 1:
            value = value.item()
        if isinstance(value, (int, float, str)) and name != "training":
            plain.append((name, value))
    parts = [
        (name, _plain(part))
        for name, part in module._modules.items()
        if part is not None and name not in _NOT_IN_LOGITS
    ]
    return type(module).__module__, type(module).__qualname__, (*plain, *parts)


def needs_own_forward(loss: torch.nn.Module, class_weights: torch.Tensor) -> bool:
    """Whether a loss of a known class does more than its class says.

    Somebody listens in on it or on a part of it (hooks, recorded statistics),
    has replaced a method, or learns more than the class weights (a scale, a margin,
    weights of a reducer): the fast algorithms would not see it.
    """
    return any(
        _is_watched(module) or _is_changed(module) or _learns(module, class_weights)
        for module in loss.modules()
    )


def _is_watched(module: torch.nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or getattr(module, "collect_stats", False)
    )


def _is_changed(module: torch.nn.Module) -> bool:
    """Whether a method is hidden by an attribute of the instance."""
    return any(
        callable(value) and callable(getattr(type(module), name, None))
        for name, value in vars(module).items()
    )


def _learns(module: torch.nn.Module, class_weights: torch.Tensor) -> bool:
    """Whether anything in it but the class weights asks for a gradient."""
    return any(
        isinstance(value, torch.Tensor)
        and value.requires_grad
        and value is not class_weights
        for table in (module._parameters, module._buffers, vars(module))
        for value in table.values()
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
