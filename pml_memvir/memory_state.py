"""The memory in state dicts: tensors only, and believed only after they are checked.

Each has a name of its own. Counters are 0-d integers; what is text (settings, the form
of what is stored) is JSON in bytes, blank behind. Some tools average, cast or filter
whatever is in a state dict: what comes of a memory then is recognised as none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from . import checks
from .form import Form
from .memory import UNITS, Contents, SnapshotMemory
from .storage import Grid

VERSION = 2
COUNTERS = (
    "version",
    "calls",
    "warmup_steps",
    "num_virtual_steps",
    "num_non_finite",
    "rank",
    "world_size",
)
TEXT = "settings"
BOOKKEEPING = ("batch_sizes", "stretches", "keys")
SEAL = "seal"
_TEXT_BYTES = 4096  # of one length, as some loaders fill what is there


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
    row: int,
) -> dict[str, torch.Tensor]:
    """Tensors by name; those of the storage are the memory's own.

    Args:
        settings: what the memory depends on; plain values.
        memory: None to leave it out.
        row: the one that the seal is of.
    """
    state = {name: _integer(counters[name]) for name in COUNTERS}
    form = None if memory is None else memory.contents.form
    text = {"settings": settings, "form": None if form is None else asdict(form)}
    state[TEXT] = pack(text)
    if memory is not None:
        copies = {n: t.clone() for n, t in memory.contents.bookkeeping().items()}
        state |= {**memory.tensors(), **copies}
        state[SEAL] = _integer(seal_of(memory.grid, row))
    return state


def missing(state: Mapping[str, Any]) -> list[str]:
    """Names that belong to what is there and are not."""
    names = [*COUNTERS, TEXT]
    if any(name in state for name in (*BOOKKEEPING, SEAL, *Grid.names())):
        names += [*BOOKKEEPING, SEAL]
        sizes = state.get("batch_sizes")
        is_filled = isinstance(sizes, torch.Tensor) and _has_data(sizes) and sizes.any()
        if is_filled or any(name in state for name in Grid.names()):
            names += Grid.names()
    return [name for name in names if name not in state]


def load(
    state: Mapping[str, Any],
    settings: Mapping[str, Any],
    owner: tuple[int, int],
    memory: SnapshotMemory,
) -> Loaded:
    """A copy of what `save` gave, if it fits the memory, which is left as it is.

    Args:
        state: nothing of it is missing.
        settings: those of the MemVir that loads.
        owner: its rank and world size.

    Raises:
        ValueError: something is of a wrong type, shape or value, or of other settings.
    """
    counters = {name: _counter(name, state[name]) for name in COUNTERS}
    if counters["version"] not in (VERSION, None):
        raise ValueError(
            f"MemVir's state must be of version {VERSION}, got {counters['version']}"
        )
    known = {name: value for name, value in counters.items() if value is not None}
    text = unpack(state[TEXT])
    exact = all(_is_integer(state[name]) for name in COUNTERS) and len(known) == len(
        COUNTERS
    )
    if text is None or not exact:
        return Loaded(known, None, _NO_MEMORY)
    if "batch_sizes" not in state:
        return Loaded(known, None, "the checkpoint holds no memory")
    saved = known["rank"], known["world_size"]
    if saved != owner:
        reason = "the checkpoint is of rank {} of {}, this process is rank {} of {}"
        return Loaded(known, None, reason.format(*saved, *owner))
    if "class_weights" not in state:
        return Loaded(known, Contents.empty(memory.schedule))
    checks.check_settings(text.get("settings"), settings)
    form = _form(text.get("form"))
    shapes = Contents.empty(memory.schedule).bookkeeping()
    with torch.inference_mode(False):  # tensors that can be written to later
        kept = {
            name: _integers(state, name, tuple(shapes[name].shape))
            for name in BOOKKEEPING
        }
        given = {name: state[name] for name in Grid.names()}
        _check_types(given)
        if not _fit(given, kept["batch_sizes"], kept["stretches"], form):
            raise ValueError(
                "the memory's tensors do not fit together: "
                + ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items())
            )
        row = memory.schedule.cell(memory.schedule.slot(max(0, known["calls"] - 1)))[0]
        if seal_of(Grid(**given), row) != _counter(SEAL, state[SEAL], least=None):
            return Loaded(known, None, _NO_MEMORY)
        grid = Grid(**{name: t.detach().clone() for name, t in given.items()})
    rows = [memory.schedule.weights_row(r) for r in range(memory.schedule.num_rows)]
    _check_values(grid, kept["batch_sizes"], rows, form.num_classes)
    return Loaded(known, Contents(grid, form, **kept))


_NO_MEMORY = (
    "what the checkpoint has in its place is no memory, but looks like the average or "
    "the cast of some"
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
    if not _has_data(data) or data.ndim != 1 or data.numel() > 2**20:
        return None
    try:
        text = json.loads(bytes(data.tolist()))
    except (ValueError, RecursionError):
        return None
    return text if isinstance(text, dict) else None


def seal_of(grid: Grid | None, row: int) -> int:
    """A sum over the bits of a row's embeddings and labels.

    An average or a cast of memories has another one; it is no proof against intent.
    """
    if grid is None:
        return 0
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    total = 0
    for tensor in (grid.embeddings[row], grid.labels[row]):
        bits = tensor.detach().contiguous().view(integers[tensor.dtype.itemsize])
        total += int(bits.sum(dtype=torch.int64))
    return (total + 2**63) % 2**64 - 2**63


def _integer(value: int) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.long, device="cpu")


def _is_integer(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.long


def _counter(name: str, value: Any, least: int | None = 0) -> int | None:
    """The number in a tensor of one, rounded down; None if it is not finite."""
    if (
        not isinstance(value, torch.Tensor)
        or value.numel() != 1
        or value.is_complex()
        or not _has_data(value)
    ):
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else value
        raise ValueError(f"{name} must be a tensor of one integer, got {found!r}")
    if not bool(value.isfinite()):
        return None
    number = int(value)
    return number if least is None else checks.counter(name, number)


def _form(text: Any) -> Form:
    try:
        form = Form(**text)
        UNITS[form.algorithm]
        for name in ("num_classes", "num_centers"):
            checks.integer(name, getattr(form, name), least=1)
        for p in (form.embeddings, form.class_weights):
            if p is not None and not float(p) > 0:
                raise ValueError(p)
    except (TypeError, ValueError, KeyError):
        raise ValueError(f"the memory's form is not known: {text!r}") from None
    return form


def _integers(
    state: Mapping[str, Any], name: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """A copy of a tensor of the state, of integers of this shape."""
    tensor = state[name]
    if not isinstance(tensor, torch.Tensor) or tensor.shape != shape:
        found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else tensor
        raise ValueError(f"the memory's {name} must have shape {shape}, got {found}")
    if tensor.is_floating_point() or tensor.is_complex() or not _has_data(tensor):
        raise ValueError(
            f"{name} must be integers, got {tensor.dtype}, {tensor.layout}"
        )
    return tensor.to("cpu", torch.long, copy=True)


def _check_types(given: Mapping[str, Any]) -> None:
    for name, tensor in given.items():
        if not isinstance(tensor, torch.Tensor):
            found = type(tensor).__name__
        elif not _has_data(tensor):
            found = f"one without data of its own or of layout {tensor.layout}"
        elif (tensor.dtype == torch.long) != (name == "labels") or not (
            name == "labels" or tensor.is_floating_point()
        ):
            found = str(tensor.dtype)
        else:
            continue
        kind = "int64" if name == "labels" else "floats"
        raise ValueError(f"the memory's {name} must be a tensor of {kind}, got {found}")


def _has_data(tensor: torch.Tensor) -> bool:
    """Whether it has a number for each element: an expanded one is small on disk."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return False
    needed: int = tensor.numel() * tensor.element_size()
    return needed <= tensor.untyped_storage().nbytes()


def _fit(
    given: Mapping[str, Any], sizes: torch.Tensor, stretches: torch.Tensor, form: Form
) -> bool:
    """Whether tensors have the shapes of one grid."""
    shape = sizes.shape
    weights, embeddings = given["class_weights"], given["embeddings"]
    labels = given["labels"]
    return (
        weights.shape[:2] == stretches.shape
        and all(given[name].shape[:2] == shape for name in _OF_A_ROW)
        and (weights.ndim, embeddings.ndim, labels.ndim) == (4, 4, 3)
        and weights.shape[2] == form.num_classes * form.num_centers
        and weights.shape[3] == embeddings.shape[3]
        and weights.dtype == embeddings.dtype
        and weights.dtype.itemsize > 1
        and embeddings.shape[2] == labels.shape[2]
        and given["own"].ndim == 3
        and given["own"].dtype == given["against"].dtype
        and given["against"].shape == (*given["own"].shape, shape[1])
        and given["own"].shape[2] == UNITS[form.algorithm](Grid(**given).size)
        and int(sizes.max()) <= labels.shape[2]
        and int(sizes.min()) >= 0
    )


_OF_A_ROW = tuple(name for name in Grid.names() if name != "class_weights")


def _check_values(
    grid: Grid, sizes: torch.Tensor, weights_rows: list[int], num_classes: int
) -> None:
    """Labels are classes and numbers are finite, in all cells that hold a snapshot."""
    for row, column in sizes.nonzero().tolist():
        cell = (row, column)
        size = int(sizes[row, column])
        columns = sizes[row].nonzero().flatten().to(grid.against.device)
        labels = grid.labels[cell][:size]
        if not bool(((labels >= 0) & (labels < num_classes)).all()):
            raise ValueError(f"the memory's labels must be 0 to {num_classes - 1}")
        numbers: dict[str, Callable[[], torch.Tensor]] = {
            "class_weights": lambda: grid.class_weights[weights_rows[row], column],
            "embeddings": lambda: grid.embeddings[cell],
            "own": lambda: grid.own[cell],
            "against": lambda: grid.against[cell].index_select(1, columns),
        }
        for name, get in numbers.items():
            if not bool(get().isfinite().all()):
                raise ValueError(f"the memory's {name} have NaN or infinity")
