"""The memory in state dicts: tensors only, and believed only after they are checked.

Each has a name of its own. Counters are 0-d integers; what is text (settings, the form
of what is stored) is JSON in bytes, blank behind. Some tools average, cast or filter
whatever is in a state dict: what comes of a memory then is recognised as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch

from ..core.grid import Contents, Size
from ..core.memory import SnapshotMemory
from ..core.schedule import Schedule
from ..core.values import integer
from . import text as in_text

VERSION = 3
READ = (2, 3)  # a 2 differs in names only
_NAMES_OF_2 = {"own": "terms", "against": "lse", "keys": "note_settings"}
COUNTED = ("calls", "warmup_steps", "num_virtual_steps", "num_non_finite")
COUNTERS = ("version", *COUNTED, "rank", "world_size")
TEXT, SEAL = "settings", "seal"
UNSEALED = object()  # in the place of a seal, where there was none yet
BOOKKEEPING = ("batch_sizes", "stretches", "note_settings")
STORAGE = ("class_weights", "embeddings", "labels", "terms", "lse")


@dataclass(frozen=True)
class Loaded:
    """What a state dict has, checked, in tensors of its own.

    Attributes:
        counters: those of COUNTERS that are there as numbers.
        contents: of the memory, or None.
        reason: why there is no memory, or "".
    """

    counters: dict[str, int]
    contents: Contents | None
    reason: str = ""


def save(
    counters: Mapping[str, int],
    settings: Mapping[str, Any],
    memory: SnapshotMemory | None,
) -> dict[str, torch.Tensor]:
    """Tensors by name; those of the storage are the memory's own.

    Args:
        settings: what the memory depends on; plain values.
        memory: None to leave it out.
    """
    counters = {**counters, "version": VERSION}
    state = {name: _integer(counters[name]) for name in COUNTERS}
    size = None if memory is None else memory.storage.contents.size
    text = {"settings": settings, "form": size and asdict(size.form)}
    state[TEXT] = in_text.pack(text)
    if memory is not None:
        memory.storage.finish()
        contents, kept = memory.storage.contents, memory.storage.contents.tensors
        state |= {**tables(contents), **kept}
        seal = in_text.seal_of(kept, memory.schedule, counters["calls"])
        state[SEAL] = _integer(seal)
    return state


def tables(contents: Contents) -> dict[str, torch.Tensor]:
    """What says which cells hold what."""
    kept = {name: getattr(contents, name) for name in BOOKKEEPING}
    with torch.inference_mode(False):
        # By lists: PyTorch 2.1 cannot take arrays of NumPy 2.
        return {
            name: torch.tensor(x.tolist(), dtype=torch.long, device="cpu").view(x.shape)
            for name, x in kept.items()
        }


def unknown(state: Mapping[str, Any]) -> list[str]:
    """Names of nothing that a memory has."""
    known = {*COUNTERS, TEXT, SEAL, *BOOKKEEPING, *STORAGE}
    return [name for name in state if name not in known]


def missing(state: Mapping[str, Any]) -> list[str]:
    """Names that belong to what is there and are not."""
    names = [*COUNTERS, TEXT]
    if any(name in state for name in (*BOOKKEEPING, SEAL, *STORAGE)):
        names += [*BOOKKEEPING, SEAL]
        sizes = state.get("batch_sizes")
        is_filled = (
            isinstance(sizes, torch.Tensor) and in_text.has_data(sizes) and sizes.any()
        )
        if is_filled or any(name in state for name in STORAGE):
            names += STORAGE
    return [name for name in names if name not in state]


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """With the names of today."""
    return {_NAMES_OF_2.get(name, name): value for name, value in state.items()}


def completed(state: dict[str, Any]) -> dict[str, Any]:
    """With both of two empty tensors, of which tools that drop what shares storage
    (of which these have none) keep one."""
    terms, lse = state.get("terms"), state.get("lse")
    if lse is None and isinstance(terms, torch.Tensor) and _is_empty(terms, 3):
        lse = terms.unsqueeze(3).expand(-1, -1, -1, terms.shape[1])
        return {**state, "lse": lse}
    if terms is None and isinstance(lse, torch.Tensor) and _is_empty(lse, 4):
        return {**state, "terms": lse[..., 0]}
    return state


def _is_empty(tensor: torch.Tensor, dims: int) -> bool:
    if tensor.layout != torch.strided or tensor.dim() != dims:
        return False
    return tensor.numel() == 0 < tensor.shape[1]


def load(
    state: Mapping[str, Any],
    settings: Mapping[str, Any],
    owner: tuple[int, int],
    schedule: Schedule,
) -> Loaded:
    """A copy of what `save` gave, if it fits the schedule.

    Args:
        state: what there is of it.
        settings: those of the MemVir that loads.
        owner: its rank and world size.

    Raises:
        ValueError: something is of a wrong type, shape or value, or of other settings.
    """
    given = {name: state[name] for name in COUNTERS if name in state}
    counters = {name: in_text.counter_in(name, value) for name, value in given.items()}
    if counters.get("version") not in (*READ, None):
        raise ValueError(
            f"MemVir's state must be of version {VERSION}, got {counters['version']}"
        )
    known = {name: value for name, value in counters.items() if value is not None}
    text = in_text.unpack(state.get(TEXT))
    if text is not None and "calls" in known:
        known["calls"] = _calls(known["calls"], text.get("settings"), schedule)
    if lacking := missing(state):
        return Loaded(known, None, f"the checkpoint has no {', '.join(lacking)}")
    is_exact = all(value.dtype == torch.long for value in given.values())
    if text is None or not is_exact or len(known) < len(COUNTERS):
        return Loaded(known, None, _NO_MEMORY)
    if "batch_sizes" not in state:
        return Loaded(known, None, "the checkpoint holds no memory")
    in_text.check_settings(text.get("settings"), settings)
    saved = known["rank"], known["world_size"]
    if saved != owner:
        reason = "the checkpoint is of rank {} of {}, this process is rank {} of {}"
        return Loaded(known, None, reason.format(*saved, *owner))
    if "class_weights" not in state:
        return Loaded(known, Contents.empty(schedule))
    form = in_text.form_of(text.get("form"))
    stored = {name: state[name] for name in STORAGE}
    for name, value in {n: state[n] for n in (*BOOKKEEPING, *STORAGE)}.items():
        _check_type(name, value)
    batch_size = stored["labels"].shape[-1] if stored["labels"].ndim else 0
    dtypes = stored["embeddings"].dtype, stored["terms"].dtype
    size = Size(form, settings["embedding_size"], batch_size, *dtypes)
    wanted: dict[str, tuple[Any, torch.dtype | None]] = {
        name: (shape, dtype) for name, shape, dtype in size.layout(schedule)
    }
    empty = Contents.empty(schedule)
    wanted |= {name: (getattr(empty, name).shape, None) for name in BOOKKEEPING}
    misfits = []
    for name, (shape, dtype) in wanted.items():
        found = state[name]
        if found.shape != shape:
            misfits.append(f"{name} must have shape {shape}, got {tuple(found.shape)}")
        if dtype not in (None, found.dtype):
            misfits.append(f"{name} must be {dtype}, got {found.dtype}")
    if misfits:
        raise ValueError(
            f"the memory's tensors do not fit together: {'; '.join(misfits)}"
        )
    contents = _contents(state, size)
    seal = in_text.seal_of(stored, schedule, known["calls"])
    if state[SEAL] is not UNSEALED and seal != int(state[SEAL]):
        return Loaded(known, None, _NO_MEMORY)
    _check_values(contents, form.num_classes, schedule)
    return Loaded(known, contents)


_NO_MEMORY = (
    "what the checkpoint has in its place is no memory, but looks like the average or "
    "the cast of some"
)


def _calls(calls: int, theirs: Any, schedule: Schedule) -> int:
    """Calls of a MemVir with `theirs`, as those of one with this schedule: at the
    same step, of which a memory that is left out needs nothing else."""
    a_step = schedule.accumulation_steps
    if isinstance(theirs, dict):
        a_step = integer("accumulation_steps", theirs.get("accumulation_steps", 1), 1)
    if a_step == schedule.accumulation_steps:
        return calls
    return calls // a_step * schedule.accumulation_steps


def _integer(value: int) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.long, device="cpu")


def _check_type(name: str, value: Any) -> None:
    """Raise ValueError unless it is a tensor of its kind of numbers, with data."""
    kinds = {"labels": "int64"} | dict.fromkeys(BOOKKEEPING, "integers")
    kind = kinds.get(name, "floats")
    if not isinstance(value, torch.Tensor):
        found = type(value).__name__
    elif not in_text.has_data(value):
        found = f"one without data of its own or of layout {value.layout}"
    else:
        is_float = value.is_floating_point() and value.dtype.itemsize > 1
        is_integer = not (value.is_floating_point() or value.is_complex())
        is_long = is_integer and value.dtype == torch.long
        fits = {"int64": is_long, "integers": is_integer, "floats": is_float}
        if fits[kind]:
            return
        found = str(value.dtype)
    raise ValueError(f"the memory's {name} must be a tensor of {kind}, got {found}")


def _contents(state: Mapping[str, Any], size: Size) -> Contents:
    """Copies of what was checked."""
    lists = (state[name].to(torch.long).tolist() for name in BOOKKEEPING)
    sizes, stretches, settings = (numpy.array(x, numpy.int64) for x in lists)
    low, high = sizes.min(), sizes.max()
    if low < 0 or high > size.batch_size:
        raise ValueError(
            "the memory's tensors do not fit together: batch_sizes must be 0 to "
            f"{size.batch_size}, got {low} to {high}"
        )
    with torch.inference_mode(False):  # tensors that can be written to later
        tensors = {name: state[name].detach().clone() for name in STORAGE}
    return Contents(sizes, stretches, settings, tensors, size)


def _check_values(contents: Contents, num_classes: int, schedule: Schedule) -> None:
    """Labels are classes and numbers are finite, in all cells that hold a snapshot."""
    for track, cell in contents.filled():
        size = contents.batch_sizes[track, cell]
        labels = contents.tensors["labels"][track, cell, :size]
        if not bool(((labels >= 0) & (labels < num_classes)).all()):
            raise ValueError(f"the memory's labels must be 0 to {num_classes - 1}")
    for name, *_ in contents.bad(schedule):
        raise ValueError(f"the memory's {name} have NaN or infinity")
