"""Loss and both gradients equal the oracle's, for every loss, over several wraps."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from pml_memvir import MemVir, losses

from .catalog import BY_NAME, CASES, NUM_CLASSES, batch, names, ragged
from .reference import NaiveMemVir, norm_softmax, relative_error, softmax_inner

DATA = Path(__file__).parent / "data"
ROUNDING = 1e-13  # of logits below 100 in float64
LEARNING_RATE = 0.05


def compare(case, memvir, naive, batches, learning_rate=LEARNING_RATE, device="cpu"):
    """Train both on the same batches, each on its own gradients; compare every step."""
    weight = case.weight(memvir.loss)
    weights = case.rows(weight.detach().clone()).cpu()
    optimizer = torch.optim.SGD([weight], lr=learning_rate)
    seen = []
    for step, (embeddings, labels) in enumerate(batches):
        expected = naive(embeddings, labels, weights)
        actual = embeddings.clone().to(device).requires_grad_()
        optimizer.zero_grad()
        loss = memvir(actual, labels.to(device))
        loss.backward()
        pairs = {
            "loss": (loss.detach(), expected.loss),
            "embeddings": (actual.grad, expected.embedding_grad),
            "class weights": (case.rows(weight.grad), expected.weight_grad),
        }
        for name, (a, b) in pairs.items():
            a = a.cpu()
            error = relative_error(a, b)
            # A loss near 0 is the difference of two logits, which have been rounded.
            is_rounding = float((a - b).norm()) <= ROUNDING
            assert error <= case.tolerance or is_rounding, (step, name, error)
        assert memvir.num_virtual_steps == expected.num_virtual_steps, step
        seen.append(expected.num_virtual_steps)
        optimizer.step()
        weights = expected.class_weights - learning_rate * expected.weight_grad
    return seen


def compare_micro_batches(case, memvir, lanes, batches):
    """A step of so many micro-batches; the class weights' gradient is their sum."""
    weight = case.weight(memvir.loss)
    weight.grad = None
    total = torch.zeros_like(case.rows(weight.detach()))
    for lane, (embeddings, labels) in zip(lanes, batches):
        expected = lane(embeddings, labels, case.rows(weight.detach()))
        inputs = embeddings.clone().requires_grad_()
        loss = memvir(inputs, labels)
        loss.backward()
        total += expected.weight_grad
        assert relative_error(loss.detach(), expected.loss) <= case.tolerance
        assert relative_error(inputs.grad, expected.embedding_grad) <= 1e-7
        assert memvir.num_virtual_steps == expected.num_virtual_steps
    assert relative_error(case.rows(weight.grad), total) <= 1e-7
    with torch.no_grad():
        weight -= LEARNING_RATE * weight.grad


@pytest.mark.parametrize("num_steps, step_gap", [(1, 0), (1, 2), (2, 0), (3, 1)])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_every_loss(case, num_steps, step_gap, algorithm):
    torch.manual_seed(0)
    warmup = 4
    memvir = MemVir(case.loss(), num_steps, step_gap, warmup, algorithm=algorithm)
    assert memvir.algorithm_used == case.algorithm_used(algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, num_steps, step_gap, warmup)
    total = warmup + 3 * num_steps * (step_gap + 1) + 2
    seen = compare(case, memvir, naive, ragged(1, total))
    first = warmup + step_gap + 1
    assert seen[:first] == [0] * first and seen[first] == 1
    assert seen[-1] == num_steps


@pytest.mark.parametrize("name", ["SphereFaceLoss", "LargeMarginSoftmaxLoss"])
def test_embeddings_of_any_length(name, algorithm):
    case = BY_NAME[name]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(2)
    batches = [batch(generator, 5, unit=False) for _ in range(12)]
    memvir = MemVir(case.loss(), 2, 1, algorithm=algorithm)
    compare(case, memvir, NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1), batches)


def test_reset_in_mid_run_keeps_the_step_counter(algorithm):
    case = BY_NAME["NormSoftmax"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 2, warmup_steps=1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 2, 1)
    compare(case, memvir, naive, ragged(3, 11))
    memvir.reset_memory()
    naive.reset_memory()
    assert memvir.step == 11 and memvir.memory_nbytes == 0
    assert memvir.num_virtual_steps == memvir.num_virtual_classes == 0
    seen = compare(case, memvir, naive, ragged(4, 20))
    assert seen[:3] == [0, 0, 0] and seen[3] == 1 and seen[-1] == 2


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad_value", [float("nan"), float("inf")])
def test_non_finite_batches_leave_holes(bad_value, algorithm):
    case = BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 3, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 3, 1)
    batches = ragged(5, 30)
    compare(case, memvir, naive, batches[:9])
    bad = batches[9][0].clone().requires_grad_()
    with torch.no_grad():
        bad[0, 0] = bad_value
    memvir(bad, batches[9][1])
    naive.step += 1
    seen = compare(case, memvir, naive, batches[10:])
    assert seen[1] == 2  # step 11 misses step 9, and still meets 7 and 5
    assert seen[-1] == 3


@pytest.mark.parametrize("name", ["norm_softmax", "proxy_nca"])
def test_golden_traces_of_the_official_implementation(name, algorithm):
    trace = np.load(DATA / f"{name}.npz", allow_pickle=False)
    meta = ast.literal_eval(str(trace["meta"][0]))
    cls = {"norm_softmax": losses.NormSoftmax, "proxy_nca": losses.ProxyNCA}[name]
    inner = cls(meta["num_classes"], meta["embedding_size"], scale=meta["scale"])
    inner.W = torch.nn.Parameter(torch.from_numpy(trace["initial_weights"].T.copy()))
    memvir = MemVir(
        inner,
        meta["num_steps"],
        meta["step_gap"],
        meta["warmup_steps"],
        algorithm=algorithm,
    )
    optimizer = torch.optim.SGD(memvir.parameters(), lr=meta["weight_lr"])
    offsets = trace["batch_offsets"]
    for step, (start, end) in enumerate(zip(offsets[:-1], offsets[1:])):
        embeddings = torch.from_numpy(trace["embeddings"][start:end]).requires_grad_()
        loss = memvir(embeddings, torch.from_numpy(trace["labels"][start:end]))
        optimizer.zero_grad()
        loss.backward()
        for actual, expected in [
            (loss.detach(), torch.tensor(trace["loss"][step])),
            (embeddings.grad, torch.from_numpy(trace["embedding_grad"][start:end])),
            (inner.W.grad.t(), torch.from_numpy(trace["weight_grad"][step])),
        ]:
            assert relative_error(actual, expected) <= 1e-9, step
        assert memvir.num_virtual_steps == trace["num_virtual_steps"][step]
        optimizer.step()
    final = torch.from_numpy(trace["final_weights"])
    assert relative_error(inner.W.detach().t(), final) <= 1e-9


def test_oracle_agrees_with_the_golden_trace():
    trace = np.load(DATA / "norm_softmax.npz", allow_pickle=False)
    meta = ast.literal_eval(str(trace["meta"][0]))
    naive = NaiveMemVir(
        softmax_inner(norm_softmax(meta["scale"])),
        meta["num_classes"],
        meta["num_steps"],
        meta["step_gap"],
        meta["warmup_steps"],
    )
    weights = torch.from_numpy(trace["initial_weights"])
    offsets = trace["batch_offsets"]
    for step, (start, end) in enumerate(zip(offsets[:-1], offsets[1:])):
        result = naive(
            torch.from_numpy(trace["embeddings"][start:end]),
            torch.from_numpy(trace["labels"][start:end]),
            weights,
        )
        assert result.num_virtual_steps == trace["num_virtual_steps"][step]
        assert relative_error(result.loss, torch.tensor(trace["loss"][step])) <= 1e-9
        weights = weights - meta["weight_lr"] * result.weight_grad


@pytest.mark.parametrize("step_gap", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_two_forwards_before_one_backward(case, step_gap, algorithm):
    """At a gap of 0 the second forward writes to the row that the first has read."""
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, step_gap, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, step_gap)
    weight = case.weight(memvir.loss)
    weights = case.rows(weight.detach().clone())
    batches = ragged(6, 12)
    for first, second in zip(batches[::2], batches[1::2]):
        inputs = [x.clone().requires_grad_() for x, _ in (first, second)]
        values = [memvir(x, y) for x, (_, y) in zip(inputs, (first, second))]
        weight.grad = None
        sum(values).backward()
        results = []
        for x, y in (first, second):
            results.append(naive(x, y, weights))
            weights = results[-1].class_weights
        for x, result in zip(inputs, results):
            assert relative_error(x.grad, result.embedding_grad) <= case.tolerance
        expected = results[0].weight_grad + results[1].weight_grad
        assert relative_error(case.rows(weight.grad), expected) <= case.tolerance
        with torch.no_grad():
            weight -= LEARNING_RATE * weight.grad
        weights = case.rows(weight.detach().clone())
