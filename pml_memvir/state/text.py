"""What a state has as text or as a number, and whether it is that still."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from ..core.form import ALGORITHMS, Form
from ..core.schedule import Schedule
from ..core.values import integer

_TEXT_BYTES = 4096  # of one length, as some loaders fill what is there


def check_settings(theirs: Any, settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless `theirs`, of a checkpoint, are these settings.

    What was no setting then has the value that a Schedule has by default.
    """
    if not isinstance(theirs, dict):
        raise ValueError(f"settings must be a dict, got {type(theirs).__name__}")
    theirs = {**asdict(Schedule(1, 0)), **theirs}
    differences = [
        f"expected {name}={value}, got {theirs.get(name)}"
        for name, value in settings.items()
        if type(theirs.get(name)) is not type(value) or theirs.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"the checkpoint is of another MemVir: {', '.join(differences)}. To take "
            "its class weights only, load what begins with 'loss.' into .loss"
        )


def pack(text: Any) -> torch.Tensor:
    """JSON as bytes, with blanks up to a multiple of a length."""
    data = json.dumps(text).encode()
    data += b" " * (-len(data) % _TEXT_BYTES)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpack(data: Any) -> dict[str, Any] | None:
    """What `pack` was given; None if it is not that any more."""
    if not isinstance(data, torch.Tensor) or data.dtype != torch.uint8:
        return None
    if not has_data(data) or data.ndim != 1 or data.numel() > 2**20:
        return None
    try:
        text = json.loads(bytes(data.tolist()))
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, dict) else None


def counter(name: str, value: Any) -> int:
    """`value` as an integer that can go on counting in 64 bits."""
    number = integer(name, value, least=0)
    if number > 2**62:
        raise ValueError(f"{name} must be <= 2**62, got {number}")
    return number


def counter_in(name: str, value: Any) -> int | None:
    """The number in a tensor of one, rounded down; None if it is not finite."""
    is_one = isinstance(value, torch.Tensor) and value.numel() == 1
    if not is_one or value.is_complex() or not has_data(value):
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else value
        raise ValueError(f"{name} must be a tensor of one integer, got {found!r}")
    return counter(name, int(value)) if bool(value.isfinite()) else None


def form_of(text: Any) -> Form:
    try:
        form = Form(**text)
        for name in ("num_classes", "num_centers"):
            integer(name, getattr(form, name), least=1)
        norms = [p for p in (form.embeddings, form.class_weights) if p is not None]
        if form.algorithm not in ALGORITHMS or not all(float(p) > 0 for p in norms):
            raise ValueError(text)
    except (TypeError, ValueError):
        raise ValueError(f"the memory's form is not known: {text!r}") from None
    return form


def has_data(tensor: torch.Tensor) -> bool:
    """Whether it has a number for each element: an expanded one is small on disk."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return False
    needed: int = tensor.numel() * tensor.element_size()
    return needed <= tensor.untyped_storage().nbytes()


def seal_of(tensors: Mapping[str, torch.Tensor], schedule: Schedule, calls: int) -> int:
    """A sum over the bits of embeddings and labels of the last call's track.

    An average or a cast of memories has another one; it is no proof against intent.
    """
    track, _ = schedule.place(schedule.slot(max(0, calls - 1)))
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    total = 0
    for name in ("embeddings", "labels") if tensors else ():
        part = tensors[name][track].detach().contiguous()
        total += int(part.view(integers[part.dtype.itemsize]).sum(dtype=torch.int64))
    return (total + 2**63) % 2**64 - 2**63
