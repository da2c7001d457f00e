"""Steps that end before all of their micro-batches are there."""

import pytest
import torch

from pml_memvir import MemVir
from pml_memvir.core.schedule import Schedule

from .catalog import CASES, NUM_CLASSES, batch, fused_adam, names, norm_softmax, ragged
from .reference import NaiveMemVir
from .test_against_reference import compare_micro_batches

AN_EPOCH, K = 5, 3  # micro-batches: steps of three and of two


@pytest.mark.parametrize(
    "step_gap, warmup, sparse",
    [
        (0, 3, {}),
        (1, 0, {"class_weights_every": 2}),
        (3, 0, {"snapshot_every": 2}),
    ],
)
@pytest.mark.parametrize("case", CASES, ids=names)
def test_every_loss(case, step_gap, warmup, sparse, algorithm):
    """Lanes are MemVirs of their own. One that is left out counts, and has a hole."""
    torch.manual_seed(0)
    settings = {"accumulation_steps": K, "algorithm": algorithm, **sparse}
    memvir = MemVir(case.loss(), 2, step_gap, warmup, **settings)
    lanes = [
        NaiveMemVir(case.inner(), NUM_CLASSES, 2, step_gap, warmup, **sparse)
        for _ in range(K)
    ]
    for lane in lanes:
        lane.shared = lanes[0].shared  # one step has one set of class weights
    steps = warmup + 3 * (step_gap + 1) + 2
    batches = iter(ragged(2, K * steps))
    for step in range(steps):
        given = 2 if step % 2 else 3
        compare_micro_batches(case, memvir, lanes[:given], batches)
        for lane in lanes[given:]:
            lane.step += 1
        memvir.end_step()
        assert memvir.step == step + 1
    assert memvir.num_virtual_steps > 0


def test_nothing_ends_where_no_step_is_under_way():
    memvir, twin = (
        norm_softmax(num_steps=2, step_gap=1, accumulation_steps=2) for _ in range(2)
    )
    memvir.end_step()
    for i, (x, y) in enumerate(ragged(0, 20)):
        assert torch.equal(memvir(x, y), twin(x, y))
        if i % 2:
            memvir.end_step()
            memvir.end_step()
        assert memvir.step == twin.step
    memvir = norm_softmax(num_steps=2, step_gap=1)
    memvir(*ragged(0, 1)[0])
    memvir.end_step()
    assert memvir.step == 1


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad", [0, 3, 4])
@pytest.mark.parametrize("sparse", [{}, {"class_weights_every": 2}])
def test_a_bad_batch_in_a_step_that_is_cut_short(sparse, bad):
    """Of micro-batches 0, 1, (missing); 3, 4, (missing): one has NaN."""
    memvir = norm_softmax(num_steps=1, step_gap=1, accumulation_steps=3, **sparse)
    batches = ragged(0, 6)
    batches[bad][0][0, 0] = float("nan")
    for i in (0, 1, 3, 4):
        memvir(*batches[i])
        if i in (1, 4):
            memvir.end_step()
    assert memvir.step == 2
    met = []
    for i in range(2 * 3):
        memvir(*ragged(1, 6)[i])
        met.append(memvir.num_virtual_steps)
    expected = [1, 1, 0, 1, 1, 0]
    expected[bad] = 0
    assert met == expected


def test_a_memory_elsewhere_fetches_what_is_met_next(monkeypatch):
    """What was begun to be copied for the next micro-batch is not what is met."""
    from pml_memvir.core.storage import Storage

    def trained():
        memvir = norm_softmax(num_steps=2, step_gap=0, accumulation_steps=3)
        values = []
        for i, (x, y) in enumerate(ragged(0, 24)):
            values.append(memvir(x, y).item())
            if i % 5 == 4:
                memvir.end_step()
        return values

    expected = trained()
    elsewhere = staticmethod(lambda storage, device: True)
    monkeypatch.setattr(Storage, "is_elsewhere", elsewhere)
    assert trained() == expected


def test_resume_after_a_step_that_is_cut_short():
    settings = dict(num_steps=2, step_gap=1, accumulation_steps=3)
    memvir, other = (norm_softmax(**settings) for _ in range(2))
    for i, (x, y) in enumerate(ragged(0, 23)):
        memvir(x, y)
        if i % 5 == 4:
            memvir.end_step()
    other.load_state_dict(memvir.state_dict())
    for i, (x, y) in enumerate(ragged(1, 23)):
        assert torch.equal(memvir(x, y), other(x, y))
        if i % 5 == 1:
            memvir.end_step()
            other.end_step()
    assert memvir.step == other.step


@pytest.mark.parametrize("k", [1, 2, 3])
def test_rest_of_a_step(k):
    schedule = Schedule(1, 0, k)
    for call in range(10):
        rest = schedule.rest_of_step(call)
        assert len(rest) == -call % k and list(rest) == [*range(call, call + len(rest))]
        assert schedule.lane(call) == call % k


def optimized(memvir, ends_steps, epochs=3, make=torch.optim.SGD, k=3, a=AN_EPOCH):
    """The weights' optimizer steps after each k batches and at an epoch's end."""
    optimizer = make(memvir.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for i in range(1, a + 1):
            x, y = batch(generator, 4)
            (memvir(x, y) / k).backward()
            if i % k == 0 or i == a:
                optimizer.step()
                optimizer.zero_grad()
                if ends_steps:
                    memvir.end_step()


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, fused_adam])
@pytest.mark.parametrize("k, a", [(3, 5), (2, 3), (4, 3), (4, 10)])
def test_steps_that_are_not_the_optimizers_are_pointed_out_once(make, k, a, recwarn):
    def memvir():
        return norm_softmax(num_steps=1, step_gap=0, accumulation_steps=k)

    optimized(memvir(), True, 4, make, k, a)
    assert not recwarn.list
    optimized(memvir(), False, 6, make, k, a)
    (warning,) = recwarn.list
    assert "call MemVir.end_step() after optimizer.step()" in str(warning.message)
    assert f"of {k} micro-batches" in str(warning.message)
    assert warning.filename == __file__


def test_nothing_is_pointed_out_where_steps_are_the_optimizers(recwarn):
    """Whole groups; a scaler that skips; two passes a step, as in SAM; no optimizer."""
    k = 2
    memvir = norm_softmax(num_steps=1, step_gap=0, accumulation_steps=k)
    optimized(memvir, False, k=k, a=4)
    weight = memvir.W
    for step, (x, y) in enumerate(ragged(0, 20)):
        memvir(x, y).backward()
        with torch.no_grad():
            weight += 0.1 if step % 2 else -0.1
    memvir = norm_softmax(num_steps=1, step_gap=0, accumulation_steps=k)
    for call, (x, y) in enumerate(ragged(0, 20)):
        memvir(x, y).backward()
        if call % 4 == 3:  # every other step is left out
            with torch.no_grad():
                memvir.W += 0.1
    frozen = norm_softmax(num_steps=1, step_gap=0, accumulation_steps=k)
    frozen.requires_grad_(False)
    for x, y in ragged(0, 9):
        frozen(x.requires_grad_(), y).backward()
    assert not recwarn.list
