"""MemVir's numbers to watch, averaged from one evaluation to the next."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

import torch

from pml_memvir import MemVir
from pml_memvir.readings import RECORDED


class Watcher:
    """Collects what the first MemVir among the losses says of its steps."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def look(self, losses: Mapping[str, torch.nn.Module]) -> None:
        """Note the numbers of the last training step."""
        for loss in losses.values():
            for module in loss.modules():
                if isinstance(module, MemVir):
                    for name in RECORDED:
                        value = getattr(module, name)
                        if not math.isnan(value):
                            self._values[name].append(value)
                    return

    def means(self) -> dict[str, float]:
        """The means since the last call; empty where there was nothing to see."""
        found = {name: fmean(values) for name, values in self._values.items()}
        self._values.clear()
        return found
