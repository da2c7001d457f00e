"""Sparser snapshots and micro-batches: which steps meet, and that all stays exact."""

import pytest
import torch
from torch.nn.functional import normalize

from pml_memvir import MemVir, losses
from pml_memvir.core.schedule import Schedule

from .catalog import (
    BY_NAME,
    CASES,
    EMBEDDING_SIZE,
    NUM_CLASSES,
    batch,
    names,
    norm_softmax,
    ragged,
    train,
)
from .reference import NaiveMemVir, relative_error
from .test_against_reference import compare, compare_micro_batches


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("step_gap, every", [(3, 2), (3, 4), (2, 3), (5, 2), (0, 1)])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_sparser_snapshots(case, step_gap, every, warmup):
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, step_gap, warmup, snapshot_every=every)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, step_gap, warmup, every)
    compare(case, memvir, naive, ragged(0, warmup + 4 * (step_gap + 1) + every))
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("step_gap", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_micro_batches_meet_their_own_kind(case, step_gap, every):
    """k lanes are k MemVirs that share the class weights, and their step."""
    k = 3
    torch.manual_seed(0)
    memvir = MemVir(
        case.loss(), 2, step_gap, 1, accumulation_steps=k, snapshot_every=every
    )
    lanes = [
        NaiveMemVir(case.inner(), NUM_CLASSES, 2, step_gap, 1, every) for _ in range(k)
    ]
    batches = iter(ragged(0, 14 * k))
    for step in range(14):
        assert memvir.step == step
        compare_micro_batches(case, memvir, lanes, batches)
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("name", ["NormSoftmax", "ArcFaceLoss", "SoftTripleLoss"])
def test_the_mean_of_equal_micro_batches_is_one_batch(name):
    case, k = BY_NAME[name], 4
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 1, accumulation_steps=k)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    generator = torch.Generator().manual_seed(0)
    weight = case.weight(memvir.loss)
    for _ in range(12):
        x, y = batch(generator, 3 * k)
        expected = naive(x, y, case.rows(weight.detach()))
        weight.grad = None
        inputs = x.clone().requires_grad_()
        parts = zip(inputs.chunk(k), y.chunk(k))
        value = sum(memvir(*part) / k for part in parts)
        value.backward()
        assert relative_error(value.detach(), expected.loss) <= 1e-9
        assert relative_error(inputs.grad, expected.embedding_grad) <= 1e-9
        assert relative_error(case.rows(weight.grad), expected.weight_grad) <= 1e-9
        with torch.no_grad():
            weight -= 0.05 * weight.grad


def test_sparser_snapshots_are_named():
    memvir = norm_softmax(num_steps=2, step_gap=3, snapshot_every=2)
    seen = []
    for x, y in ragged(0, 14):
        virtual = memvir.virtual_classes()
        seen.append(sorted(virtual.steps) if virtual else [])
        memvir(x, y)
    assert seen[:4] == [[]] * 4
    assert seen[4:8] == [[0], [0], [2], [2]]
    assert seen[8:] == [[0, 4], [0, 4], [2, 6], [2, 6], [4, 8], [4, 8]]


def test_a_hole_among_sparser_snapshots():
    memvir = norm_softmax(num_steps=2, step_gap=3, snapshot_every=2)
    batches = ragged(0, 10)
    for bad in (2, 5):  # the second leaves no snapshot anyway
        batches[bad][0][0, 0] = float("nan")
    with pytest.warns(UserWarning, match="Step 2 has NaN"):
        train(memvir, batches)
    assert memvir.num_non_finite == 2
    assert memvir.virtual_classes().steps == (6,)


@pytest.mark.parametrize("every, size", [(1, 1.0), (2, 0.55), (5, 0.22)])
def test_sparser_snapshots_take_less_memory(every, size):
    full, sparse = (
        MemVir.estimate_nbytes(10, 9, 98, 512, 128, snapshot_every=k)
        for k in (1, every)
    )
    assert sparse / full == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"snapshot_every": 0}, "snapshot_every must be >= 1, got 0"),
        ({"snapshot_every": 3}, r"must divide step_gap \+ 1 = 4, got 3"),
        ({"accumulation_steps": 0}, "accumulation_steps must be >= 1, got 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        norm_softmax(num_steps=2, step_gap=3, **settings)
    with pytest.raises(ValueError, match=message):
        MemVir.estimate_nbytes(2, 3, 5, 6, 4, **settings)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_schedule_by_brute_force(k, every):
    """Snapshots that share a row and are met have the ages that they should."""
    schedule = Schedule(3, 3, k, every)
    written = {}  # cell -> call
    for call in range(80):
        step, lane = divmod(call, k)
        row, own = schedule.place(schedule.slot(call))
        met = {
            written[row, column]
            for column in range(schedule.num_cells)
            if (row, column) in written and (every == 1 or column != own)
        }
        block = step - step % every
        expected = {(block - 4 * j) * k + lane for j in (1, 2, 3)}
        assert met == {c for c in expected if c >= 0}
        if schedule.stores(call):
            assert step == block
            assert schedule.step_of_slot(schedule.slot(call)) == step
            written[row, own] = call


def test_resume_within_a_step_and_a_block():
    settings = dict(num_steps=2, step_gap=3, snapshot_every=2, accumulation_steps=3)
    batches = ragged(0, 80)
    memvir = norm_softmax(**settings)
    train(memvir, batches[:40])
    other = norm_softmax(**settings)
    other.load_state_dict(memvir.state_dict())
    for a, b in zip(train(memvir, batches[40:]), train(other, batches[40:])):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="expected snapshot_every=1, got 2"):
        norm_softmax(num_steps=2, step_gap=3, accumulation_steps=3).load_state_dict(
            memvir.state_dict()
        )


@pytest.mark.parametrize("name", [case.name for case in CASES])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"snapshot_every": 2},
        {"accumulation_steps": 2},
        {"algorithm": "concatenation"},
    ],
)
def test_the_estimate_is_what_is_allocated(name, settings):
    case = BY_NAME[name]
    memvir = MemVir(case.loss().float(), 3, 3, memory_dtype=torch.bfloat16, **settings)
    generator = torch.Generator().manual_seed(0)
    x, y = batch(generator, 7)
    memvir(x.float(), y)
    settings.pop("algorithm", None)
    assert memvir.memory_nbytes == MemVir.estimate_nbytes(
        3,
        3,
        NUM_CLASSES,
        EMBEDDING_SIZE,
        7,
        torch.bfloat16,
        centers_per_class=case.num_centers,
        algorithm=memvir.algorithm_used,
        **settings,
    )


def test_the_estimate_at_the_papers_sizes():
    """The paper's settings: 229 MB of vectors at CARS196, 11.6 GB at SOP."""
    cars = MemVir.estimate_nbytes(45, 10, 98, 512, 128)
    sop = MemVir.estimate_nbytes(45, 10, 11318, 512, 128)
    assert 229e6 < cars < 1.06 * 229e6
    assert 11.6e9 < sop < 1.01 * 11.62e9


@pytest.mark.parametrize(
    "name", ["num_classes", "embedding_size", "batch_size", "centers_per_class"]
)
def test_an_estimate_of_nothing_is_refused(name):
    sizes = dict(num_classes=5, embedding_size=6, batch_size=7)
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        MemVir.estimate_nbytes(2, 1, **{**sizes, name: 0})


def test_a_memory_that_cannot_be_had():
    # 160 TB, for which a process has no addresses, whatever the system promises.
    memvir = MemVir(losses.NormSoftmax(50, 80_000), 10**4, 10**3)
    x, y = normalize(torch.randn(3, 80_000)), torch.tensor([0, 1, 2])
    with pytest.raises(MemoryError, match="GB on cpu, which cannot be had. Smaller"):
        memvir(x, y)
    assert memvir.step == 0 and memvir.memory_nbytes == 0
