"""Whether a loss is still what it was."""

from __future__ import annotations

import math
from typing import Any

import numpy
import torch


class Seen:
    """A loss and its parts as they are now, to be asked whether they still are.

    It costs some microseconds: dicts are compared, in which what is the same object is
    equal.
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        self.modules = list(loss.modules())
        some = (x for m in self.modules for x in (vars(m), *vars(m).values()))
        self.dicts = [x for x in some if isinstance(x, dict)]
        self.copies = [dict(x) for x in self.dicts]
        values = [value for x in self.dicts for value in x.values()]
        self.tensors = [value for value in values if isinstance(value, torch.Tensor)]
        self.facts = self._facts()
        # What is in a tensor of one number may change behind it.
        self.is_known = not any(
            isinstance(value, (torch.Tensor, numpy.ndarray))
            and not isinstance(value, torch.nn.Parameter)
            and math.prod(value.shape) == 1
            for value in values
        )

    def is_still(self, loss: torch.nn.Module) -> bool:
        """Whether this is the loss, and nothing in it has changed, for sure."""
        try:
            return (
                self.is_known
                and loss is self.modules[0]
                and self.dicts == self.copies
                and self._facts() == self.facts
            )
        except (RuntimeError, ValueError):  # other tensors, which are not compared
            return False

    def _facts(self) -> list[Any]:
        """What may change of what stays the same object."""
        of_tensors = ((t.shape, t.requires_grad) for t in self.tensors)
        return [*map(type, self.modules), *of_tensors]
