"""No step asks the device for a number: on a GPU the host would wait for it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pml_memvir import MemVir

from .catalog import CASES, ragged, train

FAST = [c for c in CASES if c.algorithm_used("auto") != "concatenation"]
# Reading a number, and results whose size depends on numbers.
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal")


class Waits(TorchDispatchMode):
    """Names of operations for which the host would wait."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITS or by_mask:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", [{}, {"snapshot_every": 2}], ids=str)
@pytest.mark.parametrize("case", FAST, ids=lambda case: case.name)
def test_steps_do_not_wait(case, settings):
    memvir = MemVir(case.loss(), 2, 1, **settings)
    train(memvir, ragged(0, 10))
    for x, y in ragged(1, 4):
        with Waits() as waits:
            memvir(x.requires_grad_(), y).backward()
        # Labels are checked at once where they lie on a CPU, and only there.
        assert waits.names == ["_local_scalar_dense"] * 2  # the lowest and the highest
        assert memvir.num_virtual_steps == 2


def test_waiting_would_be_seen():
    with Waits() as waits:
        bool(torch.ones(3).sum() > 0)
        torch.ones(3)[torch.tensor([True, False, True])]
    assert waits.names == ["_local_scalar_dense", "index"]
