"""MemVir's numbers to watch, averaged from one evaluation to the next."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean

import torch

from pml_memvir import MemVir
from pml_memvir.readings import RECORDED


def memvirs(losses: Iterable[torch.nn.Module]) -> list[MemVir]:
    """All that are among the losses, or in them."""
    modules = (module for loss in losses for module in loss.modules())
    return [module for module in modules if isinstance(module, MemVir)]


@contextmanager
def without_memory(losses: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Their state dicts are without MemVir's memory."""
    found = [(module, module.save_memory) for module in memvirs(losses)]
    for module, _ in found:
        module.save_memory = False
    try:
        yield
    finally:
        for module, was in found:
            module.save_memory = was


class Watcher:
    """Collects what the first MemVir among the losses says of its steps."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def look(self, losses: Mapping[str, torch.nn.Module]) -> None:
        """Note the numbers of the last training step."""
        for module in memvirs(losses.values())[:1]:
            for name in RECORDED:
                value = getattr(module, name)
                if not math.isnan(value):
                    self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """The means since the last call; empty where there was nothing to see."""
        found = {name: fmean(values) for name, values in self._values.items()}
        self._values.clear()
        return found
