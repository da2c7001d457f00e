"""The algorithms at O(N): when they serve, and that they stay exact when disturbed."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import reducers

from pml_memvir import MemVir
from pml_memvir.core import exact, notes
from pml_memvir.pml import plan

from .catalog import (
    BY_NAME,
    CASES,
    FAST,
    NUM_CLASSES,
    batch,
    names,
    norm_softmax,
    ragged,
    train,
)
from .peak import PeakOfTensors
from .reference import NaiveMemVir, relative_error
from .test_against_reference import compare


def step(case, wrapper, x, y):
    """Loss and both gradients of a training step."""
    inputs = x.clone().requires_grad_()
    wrapper.zero_grad()
    value = wrapper(inputs, y)
    value.backward()
    return value.detach(), inputs.grad, case.weight(wrapper.loss).grad


def both(case, memvir, other, batches, tolerance=1e-9):
    """Losses and both gradients of two wrappers agree, step by step."""
    for number, (x, y) in enumerate(batches):
        results = [step(case, wrapper, x, y) for wrapper in (memvir, other)]
        for wrapper in (memvir, other):
            weight = case.weight(wrapper.loss)
            weight.data -= 0.05 * weight.grad
        for a, b in zip(*results):
            assert relative_error(a, b) <= tolerance, number
        assert memvir.num_virtual_steps == other.num_virtual_steps


def fast_and_reference(case, num_steps=2, step_gap=1, **kwargs):
    torch.manual_seed(0)
    loss = case.loss()
    return (
        MemVir(copy.deepcopy(loss), num_steps, step_gap, **kwargs),
        MemVir(loss, num_steps, step_gap, algorithm="concatenation"),
    )


# --------------------------------------------------------- exact when disturbed


@pytest.mark.parametrize("case", FAST, ids=names)
def test_changed_settings_of_the_loss(case):
    """What is remembered depends on them and is made anew; the loss stays exact."""
    fast, reference = fast_and_reference(case)
    changes = {"scale": 5.0, "margin": 0.2, "alpha": 7.0, "la": 3.0, "gamma": 2.0}
    changes |= {"temperature": 0.3, "softmax_scale": 1.5}
    if case.name == "LargeMarginSoftmaxLoss" or case.name == "SphereFaceLoss":
        changes.pop("margin")  # PML's takes it in at construction
    both(case, fast, reference, ragged(0, 9))
    for name, value in changes.items():
        if name in fast.loss.__dict__:
            for wrapper in (fast, reference):
                setattr(wrapper, name, value)
            both(case, fast, reference, ragged(1, 5))
    assert fast.num_virtual_steps == 2


@pytest.mark.parametrize("case", FAST, ids=names)
@pytest.mark.parametrize("chunk_steps", [1, 2])
def test_chunks(case, chunk_steps):
    fast, reference = fast_and_reference(case, 3, 0, chunk_steps=chunk_steps)
    both(case, fast, reference, ragged(0, 12))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", FAST, ids=names)
def test_default_chunks_bound_what_a_step_needs(case, dtype, monkeypatch):
    """Measured, with a bound so low that several chunks are needed."""
    num_classes, num_steps, batch_size, bound = 200, 40, 40, 2**20
    peaks = []
    for chunk_bytes in (bound, 2**40):
        monkeypatch.setattr(notes, "CHUNK_BYTES", chunk_bytes)
        torch.manual_seed(0)
        memvir = MemVir(case.make(num_classes), num_steps, 0, memory_dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        for _ in range(num_steps):
            x, y = batch(generator, batch_size, num_classes)
            memvir(x.float().requires_grad_(), y)
        x = x.float().requires_grad_()
        with PeakOfTensors() as measured:
            memvir(x, y)
        peaks.append(measured.peak)
    assert peaks[0] < bound < peaks[1]


@pytest.mark.parametrize("low, high", [(0.5, 6), (1e9, None)])
def test_chunks_with_a_reducer_that_is_not_linear(low, high):
    case = BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    loss = case.loss(reducer=reducers.ThresholdReducer(low=low, high=high))
    fast = MemVir(copy.deepcopy(loss), 3, 0, chunk_steps=1)
    reference = MemVir(loss, 3, 0, algorithm="concatenation")
    for x, y in ragged(0, 10):
        values = []
        for wrapper in (fast, reference):
            inputs = x.clone().requires_grad_()
            wrapper(inputs, y).backward()
            values.append(inputs.grad)
        assert relative_error(values[0], values[1]) <= 1e-9


@pytest.mark.parametrize("case", FAST, ids=names)
def test_concatenation_in_mid_run_needs_vectors_as_they_were(case):
    fast, _ = fast_and_reference(case)
    train(fast, ragged(0, 6))
    fast.loss.distance.register_forward_hook(lambda *_: None)
    if case.name in ("Softmax", "LargeMarginSoftmaxLoss"):  # which normalise nothing
        train(fast, ragged(1, 1))
        assert fast.num_emptied == 0 and fast.num_virtual_steps == 2
        return
    with pytest.warns(UserWarning, match="as they were .concatenation"):
        train(fast, ragged(1, 1))
    assert fast.num_virtual_steps == 0


@pytest.mark.parametrize("case", FAST, ids=names)
def test_large_logits_neither_overflow_nor_underflow(case):
    fast, reference = fast_and_reference(case)
    for wrapper in (fast, reference):
        with torch.no_grad():
            case.weight(wrapper.loss).mul_(30)
    batches = [(300 * x, y) for x, y in ragged(0, 8)]
    for x, y in batches:
        inputs = x.clone().requires_grad_()
        value = fast(inputs, y)
        value.backward()
        assert value.isfinite() and inputs.grad.isfinite().all()
        if case.name != "ProxyNCALoss":  # PML's leaves out rows that underflow
            assert relative_error(value.detach(), reference(x, y).detach()) <= 1e-9


@pytest.mark.parametrize("case", FAST, ids=names)
def test_embeddings_of_length_0(case):
    """As a dead ReLU leaves them: all is finite, and as by concatenation.

    Their own gradient is not compared: PML's margin losses make it 0 where embeddings
    keep their length, which is not what it tends to.
    """
    fast, reference = fast_and_reference(case)
    for x, y in ragged(0, 9):
        x[0] = 0
        results = []
        for wrapper in (fast, reference):
            value, by_embeddings, by_weights = step(case, wrapper, x, y)
            assert by_embeddings.isfinite().all()
            results.append((value, by_embeddings[1:], by_weights))
        for a, b in zip(*results):
            assert relative_error(a, b) <= 1e-9
    assert fast.num_virtual_steps == 2 and fast.num_non_finite == 0


def test_class_weights_of_length_0():
    """Where they are not normalised, so that PML's loss is finite, too."""
    fast, reference = fast_and_reference(BY_NAME["LargeMarginSoftmaxLoss"])
    for wrapper in (fast, reference):
        wrapper.W.data[:, -1] = 0
    for x, y in ragged(0, 9):
        y[0] = NUM_CLASSES - 1
        values = [
            wrapper(x.clone().requires_grad_(), y) for wrapper in (fast, reference)
        ]
        assert relative_error(*values) <= 1e-9
    values[0].backward()
    assert fast.W.grad.isfinite().all() and fast.num_non_finite == 0


@pytest.mark.parametrize("case", FAST, ids=names)
def test_second_derivatives_are_refused_but_by_concatenation(case):
    fast, reference = fast_and_reference(case, step_gap=0)
    for wrapper in (fast, reference):
        train(wrapper, ragged(0, 3))
    x, y = ragged(1, 1)[0]

    def squared_gradient(memvir, x):
        """The same step, each time it is asked for."""
        inputs = x.clone().requires_grad_()
        value = copy.deepcopy(memvir)(inputs, y)
        (gradient,) = torch.autograd.grad(value, inputs, create_graph=True)
        return inputs, gradient.square().sum()

    with pytest.raises(RuntimeError, match="algorithm='concatenation'"):
        squared_gradient(fast, x)
    inputs, penalty = squared_gradient(reference, x)
    try:
        penalty.backward()
    except NotImplementedError as error:
        assert "the derivative for '_cdist_backward'" in str(error)
        pytest.skip("this PyTorch has no second derivative of cdist")
    step = 1e-5 * torch.randn_like(x)
    ahead, behind = (squared_gradient(reference, x + d)[1] for d in (step, -step))
    assert relative_error((inputs.grad * step).sum(), (ahead - behind) / 2) <= 1e-5


def test_zero_learning_rate():
    """All copies of a class are alike: the loss is that of n + 1 equal classes."""
    memvir = norm_softmax(num_steps=3, step_gap=0)
    x, y = batch(torch.Generator().manual_seed(0), 5)
    plain = memvir.loss(x, y)
    values = train(memvir, [(x, y)] * 6)
    for n, value in enumerate(values):
        expected = plain + torch.tensor(min(n, 3) + 1.0).double().log()
        assert torch.allclose(value, expected, rtol=1e-12)


def test_no_gradient_is_needed_for_frozen_parts():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    memvir.W.requires_grad_(False)
    for x, y in ragged(0, 5):
        inputs = x.clone().requires_grad_()
        memvir(inputs, y).backward()
        assert inputs.grad.any()
    memvir.W.requires_grad_(True)
    x, y = ragged(1, 1)[0]
    memvir(x, y).backward()
    assert memvir.W.grad.any()
    memvir.W.requires_grad_(False)
    assert not memvir(x, y).requires_grad


# ----------------------------------------------------- the pure function by gradcheck


@pytest.mark.parametrize("case", FAST, ids=names)
def test_gradcheck(case, monkeypatch):
    """Of the last step of a wrapper with a full memory."""
    captured = []

    def spy(*arguments):
        captured.append(arguments)
        return exact.exact(*arguments)

    monkeypatch.setattr(plan, "exact", spy)
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 1)
    train(memvir, ragged(0, 8))
    assert memvir.num_virtual_steps == 2
    embeddings, class_weights, *rest = captured[-1]
    inputs = [t.detach().clone().requires_grad_() for t in (embeddings, class_weights)]
    assert torch.autograd.gradcheck(lambda x, w: exact.exact(x, w, *rest)[0], inputs)


# ------------------------------------------------------------ any order of events


EVENT = st.one_of(
    st.tuples(st.just("train"), st.integers(1, 6)),
    st.tuples(st.just("eval"), st.integers(1, 6)),
    st.tuples(st.just("reset"), st.just(0)),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    case=st.sampled_from(CASES),
    num_steps=st.integers(1, 4),
    step_gap=st.integers(0, 3),
    warmup=st.integers(0, 3),
    num_classes=st.integers(2, 6),
    chunk_steps=st.one_of(st.none(), st.integers(1, 3)),
    events=st.lists(EVENT, min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
@example(BY_NAME["NormSoftmax"], 1, 0, 1, 2, None, [("train", 1)], 177)  # loss 1e-10
def test_any_order_of_events(
    case, num_steps, step_gap, warmup, num_classes, chunk_steps, events, seed
):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    memvir = MemVir(
        case.loss(num_classes), num_steps, step_gap, warmup, chunk_steps=chunk_steps
    )
    naive = NaiveMemVir(case.inner(), num_classes, num_steps, step_gap, warmup)
    for event, size in events:
        if event == "reset":
            memvir.reset_memory()
            naive.reset_memory()
            continue
        x, y = batch(generator, size, num_classes)
        if event == "train":
            case_weight = case.weight(memvir.loss)
            compare(case, memvir, naive, [(x, y)])
            assert case_weight is case.weight(memvir.loss)
        else:
            memvir.eval()
            with torch.no_grad():
                error = relative_error(memvir(x, y), memvir.loss(x, y))
            assert error <= case.tolerance  # P2SGrad moves its weights in each call
            memvir.train()
