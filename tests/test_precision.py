"""Compilation, torch.inference_mode, and batches with NaN or infinity."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

from pml_memvir import MemVir, losses

from .catalog import CASES, NUM_CLASSES, names, norm_softmax, ragged, train
from .reference import NaiveMemVir, relative_error


class Model(torch.nn.Module):
    """A network with its loss inside."""

    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(10, 8), torch.nn.ReLU(), torch.nn.Linear(8, 6)
        )
        self.loss = MemVir(losses.NormSoftmax(5, 6), **settings)

    def forward(self, images, labels):
        return 2 * self.loss(normalize(self.network(images)), labels)


def fit(model, call, num_steps, scaler=None, **autocast):
    """Train on random batches where the model is; losses of all steps."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    values = []
    for _ in range(num_steps):
        x = torch.randn(6, 10, generator=generator).to(device)
        y = torch.randint(5, (6,), generator=generator).to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, enabled=bool(autocast), **autocast):
            value = call(x, y)
        if scaler is None:
            value.backward()
            optimizer.step()
        else:
            scaler.scale(value).backward()
            scaler.step(optimizer)
            scaler.update()
        values.append(value.item())
    return torch.tensor(values)


# -------------------------------------------------------------------- compilation


def test_a_compiled_model_breaks_once_and_never_compiles_again():
    dynamo = pytest.importorskip("torch._dynamo", reason="no compiler here")
    from torch._dynamo.utils import counters

    dynamo.reset()
    counters.clear()
    model, eager = (Model(num_steps=2, step_gap=1) for _ in range(2))
    compiled = torch.compile(model, backend="aot_eager")
    first = fit(model, compiled, 2)
    graphs = counters["stats"]["unique_graphs"]
    breaks = sum(counters["graph_break"].values())
    assert graphs == 2 and len(counters["graph_break"]) == 1
    twin = copy.deepcopy(model)
    rest = fit(model, compiled, 30)  # warm-up, growth, a full memory, wraps
    assert counters["stats"]["unique_graphs"] == graphs
    assert sum(counters["graph_break"].values()) == breaks
    assert model.loss.step == 32 and model.loss.num_virtual_steps == 2
    assert torch.allclose(first, fit(eager, eager, 2), rtol=1e-5)
    assert torch.allclose(rest, fit(twin, twin, 30), rtol=1e-5)


def test_a_compiled_loss_runs_as_it_is():
    pytest.importorskip("torch._dynamo", reason="no compiler here")
    memvir, expected = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    compiled = torch.compile(memvir, backend="eager")
    for x, y in ragged(0, 9):
        assert torch.equal(compiled(x, y), expected(x, y))
    assert memvir.step == 9
    assert compiled.state_dict().keys() == {
        f"_orig_mod.{name}" for name in memvir.state_dict()
    }


def test_inference_mode_in_between():
    memvir, expected = (norm_softmax(num_steps=2, step_gap=0) for _ in range(2))
    batches = ragged(0, 12)
    for x, y in batches:
        with torch.inference_mode():
            assert torch.equal(memvir(x, y), memvir.loss(x, y))
            state = memvir.state_dict()
            memvir.load_state_dict(state)  # its tensors must not be inference tensors
        assert torch.equal(memvir(x, y), expected(x, y))
    assert memvir.step == 12


# --------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_a_poisoned_batch_is_a_hole(case, value, algorithm):
    """The loss is as the inner loss has it; all later steps are as the oracle's."""
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    batches = ragged(0, 14)
    batches[5][0][0, 0] = value
    weight = case.weight(memvir.loss)
    with pytest.warns(UserWarning, match="Step 5 has NaN or infinity"):
        for step, (x, y) in enumerate(batches):
            expected = naive(x, y, case.rows(weight.detach()))
            mine = memvir(x.clone().requires_grad_(), y)
            if step != 5:
                error = relative_error(mine.detach(), expected.loss)
                assert error <= case.tolerance, step
                assert memvir.num_virtual_steps == expected.num_virtual_steps
            elif case.name != "ProxyNCALoss":  # PML's drops rows that underflow
                assert bool(mine.isfinite()) == bool(expected.loss.isfinite())
    assert memvir.num_non_finite == 1


@pytest.mark.parametrize("what", ["embeddings", "class weights"])
def test_on_non_finite_raise(what):
    memvir = norm_softmax(num_steps=2, step_gap=1, on_non_finite="raise")
    batches = ragged(0, 9)
    train(memvir, batches[:5])
    before = copy.deepcopy(memvir.state_dict())
    x, y = batches[5]
    x = x.clone()
    weight = memvir.W.detach().clone()
    if what == "embeddings":
        x[0, 0] = float("inf")
    else:
        with torch.no_grad():
            memvir.W[0, 0] = float("nan")
    with pytest.raises(ValueError, match=f"the {what} of step 5 have NaN or infinity"):
        memvir(x, y)
    with torch.no_grad():
        memvir.W.copy_(weight)
    assert memvir.step == 5 and memvir.num_non_finite == 0
    expected = norm_softmax(num_steps=2, step_gap=1)
    expected.load_state_dict(before)
    for a, b in zip(train(memvir, batches[5:]), train(expected, batches[5:])):
        assert torch.equal(a, b)


def test_on_non_finite_takes_two_words():
    with pytest.raises(ValueError, match="on_non_finite must be one of .'skip', 'rai"):
        norm_softmax(num_steps=2, step_gap=1, on_non_finite="ignore")


def test_the_counter_is_recorded_and_saved():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    x, y = ragged(0, 1)[0]
    x[0, 0] = float("nan")
    with pytest.warns(UserWarning, match="Said once"):
        train(memvir, [(x, y)] * 3)
    assert memvir.num_non_finite == 3
    assert "num_non_finite" in memvir._record_these
    other = norm_softmax(num_steps=2, step_gap=1)
    other.load_state_dict(memvir.state_dict())
    assert other.num_non_finite == 3


# ------------------------------------------------------------- closures, SAM


def test_each_call_of_a_closure_is_a_step():
    """LBFGS calls its closure several times a step, SAM twice."""
    memvir = norm_softmax(num_steps=2, step_gap=0)
    x, y = ragged(0, 1)[0]
    optimizer = torch.optim.LBFGS([memvir.W], max_iter=3)
    calls = []

    def closure():
        optimizer.zero_grad()
        value = memvir(x, y)
        value.backward()
        calls.append(value.item())
        return value

    optimizer.step(closure)
    assert len(calls) > 1 and memvir.step == len(calls)
