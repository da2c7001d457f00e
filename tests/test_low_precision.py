"""Embeddings, class weights and memories in low precision."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

from pml_memvir import MemVir, losses

from .catalog import (
    BY_NAME,
    FAST,
    ragged,
)
from .reference import relative_error
from .test_fast_algorithms import both


def gradients(memvir, case, batches, dtype):
    """Gradients of the last of some steps at constant class weights, as float64."""
    for x, y in batches:
        inputs = x.detach().clone().to(dtype).requires_grad_()
        memvir.zero_grad()
        memvir(inputs, y).backward()
    return inputs.grad.double(), case.weight(memvir.loss).grad.double()


@pytest.mark.parametrize(
    "case, dtype",
    [
        pytest.param(case, dtype, id=f"{case.name}-{dtype}")
        for case in FAST
        for dtype in (torch.float32, torch.bfloat16)
        # PML's ProxyNCALoss needs torch.cdist, which has no bfloat16 on the CPU.
        if (case.name, dtype) != ("ProxyNCALoss", torch.bfloat16)
    ],
)
def test_low_precision_is_no_worse_than_the_naive_way(case, dtype):
    torch.manual_seed(0)
    loss = case.loss().to(dtype)
    batches = [(x.to(dtype).double(), y) for x, y in ragged(0, 8)]
    exact = MemVir(copy.deepcopy(loss).double(), 3, 0, algorithm="concatenation")
    naive = MemVir(copy.deepcopy(loss), 3, 0, algorithm="concatenation")
    fast = MemVir(copy.deepcopy(loss), 3, 0)
    expected = gradients(exact, case, batches, torch.float64)
    for mine, theirs, true in zip(
        gradients(fast, case, batches, dtype),
        gradients(naive, case, batches, dtype),
        expected,
    ):
        allowed = max(2 * relative_error(theirs, true), 8 * torch.finfo(dtype).eps)
        assert relative_error(mine, true) <= allowed


@pytest.mark.parametrize(
    "dtype, allowed",
    [
        (torch.float64, 1e-9),
        (torch.float32, 1e-5),
        (torch.float16, 1e-2),
        (torch.bfloat16, 1e-1),
    ],
)
@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_memory_dtype(dtype, allowed, algorithm):
    case = BY_NAME["NormSoftmax"]
    torch.manual_seed(0)
    loss = case.loss()
    small = MemVir(copy.deepcopy(loss), 2, 1, memory_dtype=dtype, algorithm=algorithm)
    exact = MemVir(loss, 2, 1, algorithm=algorithm)
    both(case, small, exact, ragged(0, 9), tolerance=allowed)
    assert small.virtual_classes().class_weights.dtype == dtype
    assert small.W.dtype == torch.float64


def test_memory_dtype_halves_the_memory():
    sizes = []
    for dtype in (torch.float32, torch.bfloat16):
        memvir = MemVir(losses.NormSoftmax(90, 64), 2, 0, memory_dtype=dtype)
        memvir(normalize(torch.randn(4, 64)), torch.arange(4))
        sizes.append(memvir.memory_nbytes)
    assert sizes[1] < 0.52 * sizes[0]
