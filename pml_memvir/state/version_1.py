"""States of version 1: one dict, under the name of PyTorch's extra state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ..core.form import Form
from ..core.grid import Contents
from ..core.schedule import Schedule
from . import tensors, text

NAME = "_extra_state"
_COUNTERS = tuple(name for name in tensors.COUNTERS if name != "version")
_KEYS = (*_COUNTERS, "memory", "settings", "stored_by")
_STORAGE = ("class_weights", "embeddings", "labels", "own", "against")


def convert(state: Any, schedule: Schedule, now: Form) -> dict[str, Any]:
    """The same as a state of today, tensors by name.

    The numbers kept beside snapshots are made anew when they are needed.

    Args:
        now: the form that the loss asks for now. In what form the snapshots are was not
            written down: if they are of the same algorithm it is taken to be this one.

    Raises:
        ValueError: it is not of version 1, or incomplete.
    """
    found = state.get("version") if isinstance(state, dict) else state
    if type(found) is not int or found != 1:
        raise ValueError(f"MemVir's state must be of version 1, got {found!r}")
    if missing := sorted(set(_KEYS) - state.keys()):
        raise ValueError(f"MemVir's state lacks {', '.join(missing)}")
    counters = {name: text.counter(name, state[name]) for name in _COUNTERS}
    counters["version"] = tensors.VERSION
    made: dict[str, Any] = {name: torch.tensor(v) for name, v in counters.items()}
    kept = state["memory"]
    words: dict[str, Any] = {"settings": state["settings"], "form": None}
    if kept is not None:
        if not isinstance(kept, dict):
            raise ValueError(f"the memory must be a dict, got {type(kept).__name__}")
        storage = tensors.renamed({n: kept[n] for n in _STORAGE if n in kept})
        words["form"] = asdict(_form(state["stored_by"], now)) if storage else None
        made |= {**tensors.tables(Contents.empty(schedule)), **storage}
        made |= {n: kept[n] for n in ("batch_sizes", "stretches") if n in kept}
        made[tensors.SEAL] = tensors.UNSEALED
    try:
        made[tensors.TEXT] = text.pack(words)
    except (TypeError, ValueError):
        raise ValueError(f"settings must be plain, got {state['settings']}") from None
    return made


def _form(stored_by: Any, now: Form) -> Form:
    if stored_by == now.algorithm:
        return now
    if stored_by == "concatenation":
        return Form("concatenation", now.num_classes, now.num_centers)
    return Form(str(stored_by), now.num_classes, now.num_centers, 2.0, 2.0)
