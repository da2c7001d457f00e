"""The inner loss's part of a checkpoint: found, and looked at before it is loaded.

Names begin with "loss.", or are those of the loss in its own checkpoint. A loss that
renames what it loads is the only one to know its names: they are left to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


def move_plain(state_dict: dict[str, Any], prefix: str, loss: torch.nn.Module) -> bool:
    """Bring a checkpoint of the loss alone to where a wrapper's has it.

    Returns:
        whether it was one.
    """
    if any(_of_wrapper(state_dict, prefix)):
        return False
    names = list(loss.state_dict())
    if _renames(loss):
        names = [key[len(prefix) :] for key in state_dict if key.startswith(prefix)]
    if not all(prefix + name in state_dict for name in names):
        return False
    for name in names:
        state_dict[f"{prefix}loss.{name}"] = state_dict.pop(prefix + name)
    return True


def has_weights(
    state_dict: Mapping[str, Any], prefix: str, loss: torch.nn.Module
) -> bool:
    """Whether there are any that the loss would load."""
    of_loss = f"{prefix}loss."
    if _renames(loss):
        return any(key.startswith(of_loss) for key in state_dict)
    return any(of_loss + name in state_dict for name in loss.state_dict())


def misfits(
    mine: Mapping[str, Any], state_dict: Mapping[str, Any], prefix: str, assign: bool
) -> list[str]:
    """What cannot be copied or, with `assign`, put in the place of mine, in words."""
    return [
        f"{name} must {difference}"
        for name, tensor in mine.items()
        if isinstance(tensor, torch.Tensor) and prefix + name in state_dict
        if (difference := _difference(tensor, state_dict[prefix + name], assign))
    ]


def missing(
    mine: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    prefix: str,
    loss: torch.nn.Module,
) -> list[str]:
    """What of mine is not there."""
    if _renames(loss):
        mine = {name: x for name, x in mine.items() if not name.startswith("loss.")}
    return [name for name in mine if prefix + name not in state_dict]


def unknown(
    mine: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    prefix: str,
    loss: torch.nn.Module,
) -> list[str]:
    """What is there and not mine."""
    names = (key[len(prefix) :] for key in state_dict if key.startswith(prefix))
    return [
        name
        for name in names
        if name not in mine and not (_renames(loss) and name.startswith("loss."))
    ]


def _of_wrapper(state_dict: Mapping[str, Any], prefix: str) -> Iterator[bool]:
    wrapped = (f"{prefix}_extra_state", f"{prefix}memory.", f"{prefix}loss.")
    return (key.startswith(wrapped) for key in state_dict)


def _renames(loss: torch.nn.Module) -> bool:
    """Whether it, or a part of it, may load other names than it saves."""
    return any(
        type(module)._load_from_state_dict is not torch.nn.Module._load_from_state_dict
        or module._load_state_dict_pre_hooks
        for module in loss.modules()
    )


def _difference(mine: torch.Tensor, given: Any, assign: bool) -> str:
    """What keeps `given` from being copied to `mine` (or put there), or nothing."""
    if not isinstance(given, torch.Tensor):
        return f"be a tensor, got {type(given).__name__}"
    if given.shape != mine.shape:
        return f"have shape {tuple(mine.shape)}, got {tuple(given.shape)}"
    if given.is_complex() != mine.is_complex():
        return f"be {mine.dtype}, got {given.dtype}"
    if given.is_meta or given.layout != mine.layout:
        return f"have data in {mine.layout}, got {given.device}, {given.layout}"
    if assign and given.is_floating_point() != mine.is_floating_point():
        return f"be {mine.dtype} to be assigned, got {given.dtype}"
    if assign and given.is_inference():
        return "be no tensor of torch.inference_mode to be assigned"
    return ""
