"""Transforms of torch.func are refused by a sentence; torch.autograd's work."""

import pytest
import torch
from torch import func

from pml_memvir import MemVir

from .catalog import CASES, batch, names, norm_softmax, ragged, train
from .reference import relative_error

ONE = torch.ones((), dtype=torch.float64)
TRANSFORMS = {
    "grad": lambda f, x: func.grad(f)(x),
    "vjp": lambda f, x: func.vjp(f, x)[1](ONE),
    "jvp": lambda f, x: func.jvp(f, (x,), (x,)),
    "jacrev": lambda f, x: func.jacrev(f)(x),
    "jacfwd": lambda f, x: func.jacfwd(f)(x),
    "vmap": lambda f, x: func.vmap(f)(x[None]),
    "hessian": lambda f, x: func.hessian(f)(x),
}


@pytest.mark.parametrize("mode", ["training", "eval"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_refused(name, mode, algorithm):
    memvir, twin = (
        norm_softmax(num_steps=1, step_gap=0, algorithm=algorithm) for _ in range(2)
    )
    for one in (memvir, twin):
        train(one, ragged(0, 2))
    memvir.train(mode == "training")
    x, y = batch(torch.Generator().manual_seed(0), 4)
    with pytest.raises(RuntimeError, match=r"transform of torch\.func .* backward\(\)"):
        TRANSFORMS[name](lambda e: memvir(e, y), x)
    memvir.train()
    assert memvir.step == twin.step == 2
    for a, b in zip(train(memvir, ragged(1, 3)), train(twin, ragged(1, 3))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_jacobians_of_torch_autograd(case, vectorize, algorithm):
    memvirs = []
    for _ in range(2):
        torch.manual_seed(0)
        memvirs.append(MemVir(case.loss(), 1, 0, algorithm=algorithm))
        train(memvirs[-1], ragged(0, 2))
    x, y = batch(torch.Generator().manual_seed(0), 4)
    inputs = x.clone().requires_grad_()
    memvirs[0](inputs, y).backward()
    found = torch.autograd.functional.jacobian(
        lambda e: memvirs[1](e, y), x, vectorize=vectorize
    )
    assert relative_error(found, inputs.grad) <= 1e-9
