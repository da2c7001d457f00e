"""Weights from files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

WRAPPERS = ("state_dict", "model_state", "model_state_dict")
PARALLEL_PREFIX = "module."
SHOWN = 4  # names in a message


class CheckpointError(ValueError):
    """A file of weights that is missing, damaged, or of another network."""


def load_checkpoint(
    module: nn.Module, path: str | os.PathLike[str], ignore: Iterable[str] = ()
) -> None:
    """Load all of a module's weights from a file.

    The file holds a state dict, or a dict with one at "state_dict", "model_state" or
    "model_state_dict". Names may begin with "module.", as those of DataParallel do.
    Sizes of 1 may be missing or too many: old files have batch norm weights as (1, C).

    Args:
        module: changed only when everything fits.
        path: written by `torch.save`; nothing but tensors is unpickled.
        ignore: beginnings of names that the file may have and the module has not, the
            classifier's.

    Raises:
        CheckpointError: there is no such file, it is damaged, has NaN or infinity, or
            names or shapes are not the module's.
    """
    path = Path(path)
    given = _without_parallel_prefix(_state_dict(read_tensors(path), path))
    expected = module.state_dict()
    beginnings = tuple(ignore)
    given = {
        name: tensor
        for name, tensor in given.items()
        if name in expected or not name.startswith(beginnings)
    }
    problems = _differing_names(expected, given)
    fitting = {}
    for name in expected.keys() & given.keys():
        if _essential_shape(given[name]) == _essential_shape(expected[name]):
            fitting[name] = given[name].reshape(expected[name].shape)
        else:
            problems.append(
                f"{name} is {tuple(given[name].shape)}, expected "
                f"{tuple(expected[name].shape)}"
            )
    if problems:
        raise CheckpointError(
            f"{path} has not the weights of this {type(module).__name__}: "
            + "; ".join(_first(problems, "; "))
        )
    damaged = [name for name, tensor in fitting.items() if not _is_finite(tensor)]
    if damaged:
        raise CheckpointError(
            f"{path} has NaN or infinity in {', '.join(_first(damaged, ', '))}: take "
            "weights of a training that has not diverged"
        )
    # Not strict: files older than PyTorch 0.4.1 do not count batches.
    module.load_state_dict(fitting, strict=False)


def at_most_one_source(weights: str | None, checkpoint: object | None) -> None:
    """Raises ValueError where both are given."""
    if weights is not None and checkpoint is not None:
        raise ValueError(
            "weights and checkpoint are two sources of the same weights: give one, "
            f"got weights={weights!r} and checkpoint={str(checkpoint)!r}"
        )


def read_tensors(path: Path) -> Any:
    """What `torch.save` wrote, of tensors and plain containers.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{path} cannot be read: it is damaged, or has more than tensors in it "
            f"({type(error).__name__}: {reason})"
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if isinstance(content, Mapping) and content:
        if all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
            return {str(name): tensor for name, tensor in content.items()}
    raise CheckpointError(
        f"{path} must hold a state dict, names to tensors, bare or under one of "
        f"{WRAPPERS}"
    )


def _without_parallel_prefix(
    state: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    if all(name.startswith(PARALLEL_PREFIX) for name in state):
        return {name[len(PARALLEL_PREFIX) :]: state[name] for name in state}
    return state


def _differing_names(
    expected: Mapping[str, Any], given: Mapping[str, Any]
) -> list[str]:
    optional = ".num_batches_tracked"
    missing = [n for n in expected if n not in given and not n.endswith(optional)]
    unexpected = [name for name in given if name not in expected]
    return [
        f"{len(names)} {kind} ({', '.join(_first(names, ', '))})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _essential_shape(tensor: torch.Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _first(items: list[str], separator: str) -> list[str]:
    more = len(items) - SHOWN
    return items[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
