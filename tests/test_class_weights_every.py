"""Class weights kept once in several steps: exact, at less memory, in checkpoints."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pml_memvir import MemVir
from pml_memvir.losses import Softmax

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
from .reference import NaiveMemVir
from .test_against_reference import compare, compare_micro_batches

# step_gap, snapshot_every, class_weights_every, warmup_steps
SETTINGS = [
    (3, 1, 4, 0),
    (3, 1, 4, 2),
    (3, 1, 2, 0),
    (5, 2, 6, 2),
    (5, 3, 3, 0),
    (0, 1, 1, 2),
    (2, 1, 3, 0),
]


@pytest.mark.parametrize("step_gap, every, weights_every, warmup", SETTINGS)
@pytest.mark.parametrize("case", CASES, ids=names)
def test_every_loss(case, step_gap, every, weights_every, warmup, algorithm):
    """Warm-up ends within a stretch, too: the first snapshot after it opens one."""
    torch.manual_seed(0)
    memvir = MemVir(
        case.loss(),
        2,
        step_gap,
        warmup,
        snapshot_every=every,
        class_weights_every=weights_every,
        algorithm=algorithm,
    )
    naive = NaiveMemVir(
        case.inner(), NUM_CLASSES, 2, step_gap, warmup, every, weights_every
    )
    compare(case, memvir, naive, ragged(0, warmup + 5 * (step_gap + 1) + 2))
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("settings", [{"memory_device": "cpu"}, {"chunk_steps": 1}])
def test_other_ways_through_the_memory(settings):
    case = BY_NAME["SubCenterArcFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 3, 3, class_weights_every=4, **settings)
    memvir._memory.storage.is_elsewhere = lambda *devices: "memory_device" in settings
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 3, 3, 0, 1, 4)
    compare(case, memvir, naive, ragged(0, 26))
    assert (memvir._memory.storage.ahead is not None) == ("memory_device" in settings)


@pytest.mark.parametrize("every, weights_every", [(1, 4), (2, 4)])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_micro_batches_share_class_weights(case, every, weights_every):
    k = 2
    torch.manual_seed(0)
    memvir = MemVir(
        case.loss(),
        2,
        3,
        1,
        accumulation_steps=k,
        snapshot_every=every,
        class_weights_every=weights_every,
    )
    lanes = [
        NaiveMemVir(case.inner(), NUM_CLASSES, 2, 3, 1, every, weights_every)
        for _ in range(k)
    ]
    batches = iter(ragged(0, 22 * k))
    for _ in range(22):
        compare_micro_batches(case, memvir, lanes, batches)
    assert memvir.num_virtual_steps == 2
    assert memvir._memory.storage.contents.tensors["class_weights"].shape[:2] == (1, 3)


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad_step", [8, 9])
def test_a_bad_batch_leaves_a_hole_and_its_class_weights(bad_step, algorithm):
    """Step 8 opens a stretch: the others of it belong to its class weights."""
    case = BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 3, class_weights_every=4, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 3, 0, 1, 4)
    batches = ragged(5, 30)
    compare(case, memvir, naive, batches[:bad_step])
    x, y = batches[bad_step]
    memvir(torch.full_like(x, torch.nan), y)
    naive(torch.full_like(x, torch.nan), y, case.rows(memvir.W.detach().clone()))
    seen = compare(case, memvir, naive, batches[bad_step + 1 :])
    assert seen[3] == 1 and seen[-1] == 2
    assert memvir.num_non_finite == 1


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad_step, met", [(8, 1), (10, 2)])
def test_bad_class_weights_spoil_the_stretch_they_open(algorithm, bad_step, met):
    """Those of a later step in it are a hole of this step alone."""
    case = BY_NAME["NormSoftmax"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 3, class_weights_every=4, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 3, 0, 1, 4)
    batches = ragged(5, 30)
    compare(case, memvir, naive, batches[:bad_step])
    good = memvir.W.detach().clone()
    with torch.no_grad():
        memvir.W[0, 0] = torch.nan
    x, y = batches[bad_step]
    memvir(x, y)
    naive(x, y, case.rows(memvir.W.detach().clone()))
    with torch.no_grad():
        memvir.W.copy_(good)
    resumed = MemVir(case.loss(), 2, 3, class_weights_every=4, algorithm=algorithm)
    resumed.load_state_dict(memvir.state_dict())
    seen = compare(case, resumed, naive, batches[bad_step + 1 :])
    of_step = dict(enumerate(seen, start=bad_step + 1))
    assert [of_step[t] for t in range(12, 16)] == [
        met,
        met,
        met - (bad_step == 10),
        met,
    ]
    assert seen[-1] == 2


def test_class_weights_too_large_for_a_new_dtype_spoil_their_stretch(algorithm):
    torch.manual_seed(0)
    settings = {"class_weights_every": 4, "algorithm": algorithm}
    memvir = MemVir(Softmax(NUM_CLASSES, EMBEDDING_SIZE).float(), 2, 3, **settings)
    batches = [(x.float(), y) for x, y in ragged(0, 12)]
    good = memvir.W.detach().clone()
    for step, (x, y) in enumerate(batches):
        with torch.no_grad():
            memvir.W.copy_(1e6 * good if step == 4 else good)
        if step == 6:  # a stretch has been opened, and goes on
            state = memvir.state_dict()
            settings["memory_dtype"] = torch.float16
            memvir = MemVir(Softmax(NUM_CLASSES, EMBEDDING_SIZE), 2, 3, **settings)
            memvir.load_state_dict(state)
        assert all(loss.isfinite() for loss in train(memvir, [(x, y)]))
    assert memvir.virtual_classes().steps == (8,)  # of step 12: step 4's is spoilt


def test_class_weights_found_bad_later_take_their_snapshots_along():
    """On a GPU the answer comes when later snapshots already belong to them."""
    memvir = norm_softmax(num_steps=2, step_gap=3, class_weights_every=4)
    train(memvir, ragged(0, 7))
    memory = memvir._memory
    memory.spoil_class_weights(memvir._memory.schedule.slot(4))
    train(memvir, ragged(1, 1))
    sizes = memory.storage.contents.batch_sizes
    assert [sizes[track][1] for track in range(4)] == [0] * 4
    assert all(sizes[track][0] > 0 for track in range(4))


class Looked(TorchDispatchMode):
    """`elements`: how many numbers were asked whether they are finite."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if result.__class__ is torch.Tensor and result.dtype == torch.bool:
            self.elements += result.numel()
        return result


def test_loading_looks_at_class_weights_once():
    """However many snapshots share them."""
    looked = {}
    for every in (1, 10):
        settings = dict(num_steps=2, step_gap=59, snapshot_every=every)
        memvir = MemVir(Softmax(500, 8), class_weights_every=60, **settings)
        memvir.requires_grad_(False)
        x, y = torch.randn(1, 8), torch.zeros(1, dtype=torch.long)
        for _ in range(130):
            memvir(x, y)
        other = MemVir(Softmax(500, 8), class_weights_every=60, **settings)
        with Looked() as counted:
            other.load_state_dict(memvir.state_dict())
        looked[every] = counted.elements
    assert looked[1] < 1.5 * looked[10]


def test_they_are_kept_so_many_times():
    shared = MemVir.estimate_nbytes(
        5, 499, 11318, 512, 64, class_weights_every=500, snapshot_every=50
    )
    assert shared == pytest.approx(6 * 11318 * 512 * 4, rel=0.1)


@pytest.mark.parametrize("name", [case.name for case in CASES])
@pytest.mark.parametrize(
    "settings", [{}, {"snapshot_every": 2}, {"accumulation_steps": 2}], ids=str
)
def test_the_estimate_is_what_is_allocated(name, settings):
    case = BY_NAME[name]
    settings = {"class_weights_every": 4, **settings}
    memvir = MemVir(case.loss().float(), 3, 3, **settings)
    x, y = batch(torch.Generator().manual_seed(0), 7)
    memvir(x.float(), y)
    assert memvir.memory_nbytes == MemVir.estimate_nbytes(
        3,
        3,
        NUM_CLASSES,
        EMBEDDING_SIZE,
        7,
        centers_per_class=case.num_centers,
        algorithm=memvir.algorithm_used,
        **settings,
    )


@pytest.mark.parametrize("at", [0, 2, 17, 21])
def test_resume_within_a_stretch(at, algorithm):
    settings = dict(num_steps=2, step_gap=3, class_weights_every=4, algorithm=algorithm)
    batches = ragged(0, 40)
    memvir, other = norm_softmax(**settings), norm_softmax(**settings)
    train(memvir, batches[:at])
    other.load_state_dict(memvir.state_dict())
    for a, b in zip(train(memvir, batches[at:]), train(other, batches[at:])):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="expected class_weights_every=None, got 4"):
        norm_softmax(num_steps=2, step_gap=3).load_state_dict(memvir.state_dict())


def test_a_state_without_its_stretches_is_refused():
    memvir = norm_softmax(num_steps=2, step_gap=3, class_weights_every=4)
    train(memvir, ragged(0, 6))
    state = memvir.state_dict()
    with pytest.raises(ValueError, match=r"stretches must have shape \(1, 3\)"):
        memvir.load_state_dict(state | {"memory.stretches": torch.zeros(1, 2).long()})
    del state["memory.stretches"]
    with pytest.raises(ValueError, match="memory.stretches is missing"):
        memvir.load_state_dict(state)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"class_weights_every": 0}, "class_weights_every must be >= 1, got 0"),
        ({"class_weights_every": 3}, r"divide step_gap \+ 1 = 4 .* got 3"),
        (
            {"class_weights_every": 2, "snapshot_every": 4},
            "multiple of snapshot_every = 4, got 2",
        ),
    ],
)
def test_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        norm_softmax(num_steps=2, step_gap=3, **settings)


def test_what_is_met_and_by_whom():
    memvir = norm_softmax(num_steps=1, step_gap=3, class_weights_every=4)
    kept = []
    for step, (x, y) in enumerate(ragged(0, 9)):
        with torch.no_grad():
            memvir.W.mul_(-1)  # never the same twice in a row
        if step % 4 == 0:
            kept.append(memvir.loss.class_vectors().detach().t().clone())
        memvir(x, y)
    virtual = memvir.virtual_classes()
    assert virtual.steps == (5,)
    assert torch.equal(virtual.class_weights[0], kept[1])
    assert memvir.class_weights_every == 4 and memvir.memory_nbytes > 0
