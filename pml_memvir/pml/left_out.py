"""What PML's objects know and their state dicts leave out.

Without it a resumed training is another one: some samplers shuffle their own arrays
from epoch to epoch, and CrossBatchMemory saves its queue but not where it is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import torch
from pytorch_metric_learning.losses import CrossBatchMemory
from pytorch_metric_learning.samplers import FixedSetOfTriplets, MPerClassSampler
from torch.utils.data import BatchSampler

# The array that a sampler shuffles in place.
SHUFFLED = {MPerClassSampler: "labels", FixedSetOfTriplets: "fixed_set_of_triplets"}
SAMPLER, QUEUES = "sampler", "queues"


def left_out(trainer: Any) -> dict[str, Any]:
    """The trainer's sampler order and CrossBatchMemory cursors, as plain data."""
    array = _shuffled(trainer.sampler)
    return {
        SAMPLER: None if array is None else _saved(array),
        QUEUES: {
            name: [int(memory.queue_idx), bool(memory.has_been_filled)]
            for name, memory in _memories(trainer)
        },
    }


def put_back(trainer: Any, state: Mapping[str, Any]) -> None:
    """Set what `left_out` gave; what a state of an older version lacks stays."""
    array, saved = _shuffled(trainer.sampler), state.get(SAMPLER)
    if array is not None and saved is not None:
        if isinstance(saved, torch.Tensor):
            saved = saved.tolist() if isinstance(array, list) else saved.numpy()
        array[:] = saved
    queues = state.get(QUEUES, {})
    for name, memory in _memories(trainer):
        if name in queues:
            memory.queue_idx, memory.has_been_filled = queues[name]


def plain(state: Any) -> Any:
    """A state that `weights_only=True` loads.

    Counters (of MultiStepLR), which PyTorch 2.1 does not load, are dicts, and NumPy's
    numbers and arrays (a learning rate of `numpy.logspace`) are Python's.
    """
    if isinstance(state, Counter):
        return dict(state)
    if isinstance(state, (numpy.generic, numpy.ndarray)):
        return state.tolist()
    if type(state) is dict:
        return {key: plain(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(plain(value) for value in state)
    return state


def not_plain(current: Any, loaded: Any) -> Any:
    """What `plain` made, with Counters and arrays again where `current` has them."""
    if isinstance(current, Counter):
        return Counter(loaded)
    if isinstance(current, numpy.ndarray) and not isinstance(loaded, numpy.ndarray):
        return numpy.asarray(loaded, current.dtype)
    if type(current) is dict and type(loaded) is dict:
        return {
            key: not_plain(current.get(key), value) for key, value in loaded.items()
        }
    sequences = (list, tuple)
    if type(current) is type(loaded) in sequences and len(current) == len(loaded):
        return type(loaded)(map(not_plain, current, loaded))
    return loaded


def _saved(array: Any) -> Any:
    """A tensor; a list if it holds anything but numbers: labels may be strings."""
    try:
        return torch.as_tensor(array).clone()
    except (TypeError, ValueError):
        return plain(list(array))


def _shuffled(sampler: Any) -> Any:
    while isinstance(sampler, BatchSampler):
        sampler = getattr(sampler, "sampler", None)
    for kind, attribute in SHUFFLED.items():
        if isinstance(sampler, kind):
            return getattr(sampler, attribute)
    return None


def _memories(trainer: Any) -> Iterator[tuple[str, Any]]:
    for key, loss in trainer.loss_funcs.items():
        for name, module in loss.named_modules():
            if isinstance(module, CrossBatchMemory):
                yield f"{key}.{name}", module
