"""Autocast and embeddings of other dtypes: what class weights and memory do."""

import copy

import pytest
import torch

from pml_memvir import MemVir
from pml_memvir.pml import plan

from .catalog import BY_NAME, CASES, FAST, names, norm_softmax, ragged
from .reference import relative_error
from .test_precision import Model, fit


def needs_autocast_in(dtype):
    try:
        with torch.autocast("cpu", dtype=dtype):
            torch.ones(2, 2) @ torch.ones(2, 2)
    except RuntimeError as error:
        pytest.skip(f"this PyTorch: {error}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", FAST, ids=names)
def test_cpu_autocast(case, dtype, algorithm):
    needs_autocast_in(dtype)
    """The loss is computed in the class weights' dtype, as without autocast, of
    embeddings that have been rounded; the weights stay what they are."""
    torch.manual_seed(0)
    loss = case.loss().float()
    memvir = MemVir(loss, 2, 1, algorithm=algorithm)
    expected = MemVir(copy.deepcopy(loss), 2, 1, algorithm=algorithm)
    for x, y in ragged(0, 9):
        rounded = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            value = memvir(rounded, y)
        value.backward()
        plain = rounded.detach().float().requires_grad_()
        reference = expected(plain, y)
        reference.backward()
        if memvir.algorithm_used != "concatenation":
            assert torch.equal(value.float(), reference)
            assert relative_error(rounded.grad.float(), plain.grad) < 0.01
        assert case.weight(memvir.loss).dtype == torch.float32
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast_is_close_to_training_without(dtype):
    needs_autocast_in(dtype)
    model, plain = (Model(num_steps=2, step_gap=1) for _ in range(2))
    values = fit(model, model, 30, dtype=dtype)
    expected = fit(plain, plain, 30)
    assert torch.allclose(values, expected, rtol=0.05)
    assert model.loss.W.dtype == torch.float32


def test_a_grad_scaler_finds_its_scale():
    """Too large a scale overflows; steps are skipped, and nothing is poisoned."""
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this PyTorch has a GradScaler for CUDA only")
    model = Model(num_steps=2, step_gap=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=1000)
    values = fit(model, model, 40, scaler, dtype=torch.float16)
    assert scaler.get_scale() < 2.0**40 and values.isfinite().all()
    assert model.loss.num_non_finite == 0  # gradients overflowed, not embeddings
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("case", CASES, ids=names)
def test_class_weights_and_memory_follow_the_embeddings(case):
    memvir = MemVir(case.loss().float(), num_steps=1, step_gap=0)
    f32, f64 = torch.float32, torch.float64
    for dtype in (f32, f32, f64, f64, f32, f32):  # up and down again
        x, y = ragged(0, 1)[0]
        x = x.to(dtype).requires_grad_()
        memvir(x, y).backward()
        assert x.grad.dtype == case.weight(memvir.loss).dtype == dtype
        assert memvir.virtual_classes().class_weights.dtype == dtype
        memvir.zero_grad()


AUTOCAST = [case for case in CASES if case.name != "P2SGradLoss"]


def under_autocast(function, x, y):
    """A linear layer, then the loss, as a training loop under autocast has them."""
    layer = torch.nn.Linear(x.shape[1], x.shape[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = function(torch.nn.functional.normalize(layer(x)), y)
    loss.backward()
    return loss.detach(), layer.weight.grad


@pytest.mark.filterwarnings("ignore:MemVir is called in evaluation")
@pytest.mark.parametrize("case", AUTOCAST, ids=names)
def test_cpu_autocast_spares_the_class_weights(case):
    plain = case.loss().float()
    x, y = ragged(0, 1)[0]
    under_autocast(plain, x.float(), y)
    assert case.weight(plain).dtype == torch.bfloat16  # what PML does
    memvir = MemVir(case.loss().float(), num_steps=2, step_gap=0, warmup_steps=1)
    for x, y in ragged(1, 5):
        loss, grad = under_autocast(memvir, x.float(), y)
        assert loss.isfinite() and grad.isfinite().all()
        weight = case.weight(memvir.loss)
        assert weight.dtype == weight.grad.dtype == torch.float32
    assert memvir.num_virtual_steps == 2
    memvir.eval()
    under_autocast(memvir, x.float(), y)
    assert case.weight(memvir.loss).dtype == torch.float32


def test_autocast_changes_the_loss_by_rounding_only():
    torch.manual_seed(0)
    exact, rounded = (norm_softmax(num_steps=2, step_gap=0).float() for _ in range(2))
    for x, y in ragged(0, 5):
        expected = exact(x.float(), y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = rounded(x.bfloat16(), y)
        assert abs(value - expected) < 0.02 * expected


@pytest.mark.parametrize("settings", [{}, {"class_weights_every": 2}], ids=str)
@pytest.mark.parametrize("name", ["CosFaceLoss", "ProxyAnchorLoss"])
def test_autocast_rounds_nothing_that_is_kept(name, settings):
    """Embeddings of float32 give the same to the last bit, with or without it."""
    made = []
    for enabled in (False, True):
        torch.manual_seed(0)
        memvir = MemVir(BY_NAME[name].loss().float(), 2, 1, **settings)
        mined = tuple(torch.tensor([0, 0, 1]) for _ in range(3))
        values = []
        for x, y in ragged(0, 9):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                values.append(memvir(x.float().requires_grad_(), y, mined))
        made.append(torch.stack(values))
    assert torch.equal(*made)


def test_devices_without_autocast():
    """PyTorch raises of those that it knows no autocast for."""
    assert plan.is_autocast("cpu") is False and not plan.is_autocast("meta")
