"""States of version 1: one dict, under the name of PyTorch's extra state."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from . import checks, memory_state
from .form import Form
from .memory import Contents, SnapshotMemory
from .storage import Grid

NAME = "_extra_state"
_COUNTERS = tuple(name for name in memory_state.COUNTERS if name != "version")
_KEYS = (*_COUNTERS, "memory", "settings", "stored_by")


def convert(state: Any, memory: SnapshotMemory, now: Form) -> dict[str, Any]:
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
    counters = {name: checks.counter(name, state[name]) for name in _COUNTERS}
    counters["version"] = memory_state.VERSION
    checks.check_settings(state["settings"], {})  # what is in it is looked at later
    tensors: dict[str, Any] = {n: torch.tensor(v) for n, v in counters.items()}
    kept = state["memory"]
    text: dict[str, Any] = {"settings": state["settings"], "form": None}
    if kept is not None:
        if not isinstance(kept, dict):
            raise ValueError(f"the memory must be a dict, got {type(kept).__name__}")
        grid = {name: kept[name] for name in Grid.names() if name in kept}
        text["form"] = asdict(_form(state["stored_by"], now)) if grid else None
        empty = Contents.empty(memory.schedule).bookkeeping()
        tensors |= {**empty, **grid}
        for name in ("batch_sizes", "stretches"):
            tensors[name] = kept.get(name, empty[name])
        tensors[memory_state.SEAL] = torch.tensor(
            _seal(grid, memory, counters["calls"])
        )
    try:
        tensors[memory_state.TEXT] = memory_state.pack(text)
    except (TypeError, ValueError):
        raise ValueError(f"settings must be plain, got {state['settings']}") from None
    return tensors


def _form(stored_by: Any, now: Form) -> Form:
    if stored_by == now.algorithm:
        return now
    if stored_by == "concatenation":
        return Form("concatenation", now.num_classes, now.num_centers)
    return Form(str(stored_by), now.num_classes, now.num_centers, 2.0, 2.0)


def _seal(grid: dict[str, Any], memory: SnapshotMemory, calls: int) -> int:
    """That of what there is, as nothing was sealed then."""
    try:
        row = memory.schedule.cell(memory.schedule.slot(max(0, calls - 1)))[0]
        return memory_state.seal_of(Grid(**grid), row) if grid else 0
    except (TypeError, KeyError, IndexError, RuntimeError, AttributeError):
        return 0  # damaged, as will be found
