"""Weights from files, and packages that only some backbones need."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import Mistake

WRAPPERS = ("state_dict", "model_state", "model_state_dict")
PARALLEL_PREFIX = "module."
OPTIONAL = ".num_batches_tracked"  # files older than PyTorch 0.4.1 have none
SHOWN = 4  # names in a message


class CheckpointError(Mistake):
    """A file of weights that is missing, damaged, or of another network."""


def load_checkpoint(
    module: nn.Module,
    path: str | os.PathLike[str] | None,
    ignore: Iterable[str] = (),
) -> None:
    """Load all of a module's weights from a file.

    The file holds a state dict, or a dict with one at "state_dict", "model_state" or
    "model_state_dict". Names may begin with "module.", as those of DataParallel do.
    Sizes of 1 may be missing or too many: old files have batch norm weights as (1, C).

    Args:
        module: changed only when everything fits.
        path: written by `torch.save`; nothing but tensors is unpickled. None: the
            module stays as it is.
        ignore: beginnings of names that the file may have and the module has not, the
            classifier's.

    Raises:
        CheckpointError: there is no such file, it is damaged, has NaN or infinity, or
            names or shapes are not the module's.
    """
    if path is None:
        return
    given = _state_dict(read_tensors(Path(path)), path)
    expected = module.state_dict()
    extra = [n for n in given if n not in expected and not n.startswith(tuple(ignore))]
    missing = [n for n in expected if n not in given and not n.endswith(OPTIONAL)]
    problems = [
        f"{len(names)} {kind} ({_first(names, ', ')})"
        for kind, names in (("missing", missing), ("unexpected", extra))
        if names
    ]
    there = [name for name in expected if name in given]
    problems += [
        f"{n} is {tuple(given[n].shape)}, expected {tuple(expected[n].shape)}"
        for n in there
        if given[n].squeeze().shape != expected[n].squeeze().shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} has not the weights of this {type(module).__name__}: "
            f"{_first(problems, '; ')}"
        )
    if damaged := [n for n in there if not torch.isfinite(given[n]).all()]:
        raise CheckpointError(
            f"{path} has NaN or infinity in {_first(damaged, ', ')}: take "
            "weights of a training that has not diverged"
        )
    fitting = {name: given[name].reshape(expected[name].shape) for name in there}
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


def require(module: str, backbone: str, install: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: its name when imported.
        backbone: what needs it.
        install: the command that installs it.

    Raises:
        ImportError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{backbone} needs {module}, which cannot be imported ({error}): {install}"
        ) from error


def _state_dict(content: Any, path: object) -> dict[str, torch.Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    state = dict(content) if isinstance(content, Mapping) else {}
    if not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise CheckpointError(
            f"{path} must hold a state dict, names to tensors, bare or under one of "
            f"{WRAPPERS}"
        )
    parallel = all(str(name).startswith(PARALLEL_PREFIX) for name in state)
    start = len(PARALLEL_PREFIX) if parallel else 0
    return {str(name)[start:]: tensor for name, tensor in state.items()}


def _first(items: Sequence[str], separator: str) -> str:
    more = len(items) - SHOWN
    end = [f"and {more} more"] if more > 0 else []
    return separator.join([*items[:SHOWN], *end])
