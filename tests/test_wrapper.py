"""MemVir as a PML loss: what it is outside the numbers of its loss."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
from pytorch_metric_learning import losses as pml_losses
from pytorch_metric_learning.losses.base_loss_wrapper import BaseLossWrapper
from pytorch_metric_learning.utils.module_with_records import ModuleWithRecords

from pml_memvir import MemVir, epochs_to_steps

from .catalog import (
    CASES,
    EMBEDDING_SIZE,
    NUM_CLASSES,
    batch,
    names,
    norm_softmax,
    ragged,
    train,
)


def test_is_what_pml_calls_a_wrapper():
    memvir = norm_softmax(num_steps=1, step_gap=0)
    assert isinstance(memvir, BaseLossWrapper)
    assert isinstance(memvir, ModuleWithRecords)
    assert memvir.loss is dict(memvir.named_children())["loss"]


@pytest.mark.parametrize("case", CASES, ids=names)
def test_warm_up_and_eval_equal_the_inner_loss_exactly(case):
    torch.manual_seed(0)
    inner = case.loss()
    memvir = MemVir(copy.deepcopy(inner), 2, 0, warmup_steps=5)
    for x, y in ragged(0, 5):  # warm-up
        assert torch.equal(memvir(x, y), inner(x, y))
    assert memvir.memory_nbytes == 0
    train(memvir, ragged(1, 4))
    step, nbytes = memvir.step, memvir.memory_nbytes
    before = copy.deepcopy(memvir.virtual_classes())
    memvir.eval()
    for x, y in ragged(2, 3):
        assert torch.equal(memvir(x, y), inner(x, y))
    memvir.train()
    for x, y in ragged(3, 3):
        with torch.no_grad():
            assert torch.equal(memvir(x, y), inner(x, y))
    assert (memvir.step, memvir.memory_nbytes) == (step, nbytes)
    after = memvir.virtual_classes()
    assert before.batch_sizes == after.batch_sizes
    assert torch.equal(before.class_weights, after.class_weights)


def test_counts():
    memvir = norm_softmax(num_steps=2, step_gap=1, warmup_steps=1)
    seen = []
    for x, y in ragged(0, 7):
        memvir(x, y)
        seen.append((memvir.num_virtual_steps, memvir.num_virtual_classes))
    c = NUM_CLASSES
    assert seen == [(0, 0), (0, 0), (0, 0), (1, c), (1, c), (2, 2 * c), (2, 2 * c)]


@pytest.mark.parametrize("case", CASES, ids=names)
def test_virtual_classes_are_counted_by_the_weights(case):
    """Several of PML's losses say num_classes = 0."""
    memvir = MemVir(case.loss(), 1, 0)
    train(memvir, ragged(0, 2))
    assert memvir.num_virtual_classes == NUM_CLASSES


def test_memory_is_allocated_late_and_grows_for_a_larger_batch():
    memvir = norm_softmax(num_steps=2, step_gap=1, warmup_steps=1)
    generator = torch.Generator().manual_seed(0)
    train(memvir, [batch(generator, 3)])
    assert memvir.memory_nbytes == 0
    cells = 2 * 2
    weights = NUM_CLASSES * EMBEDDING_SIZE * 8
    row = (EMBEDDING_SIZE + 1) * 8 + (1 + 2) * 8  # with label; with its notes
    train(memvir, [batch(generator, 3)])
    assert memvir.memory_nbytes == cells * (weights + 3 * row)
    train(memvir, [batch(generator, 2), batch(generator, 7), batch(generator, 1)])
    assert memvir.memory_nbytes == cells * (weights + 7 * row)


def test_virtual_classes_are_those_of_the_next_step():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    assert memvir.virtual_classes() is None
    batches = ragged(0, 3)
    train(memvir, batches)
    virtual = memvir.virtual_classes()  # step 3 meets step 1
    assert virtual.steps == (1,) and virtual.batch_sizes == (len(batches[1][1]),)
    embeddings, labels = virtual.flat(NUM_CLASSES)
    assert torch.equal(embeddings, batches[1][0])
    assert torch.equal(labels, batches[1][1] + NUM_CLASSES)
    virtual.embeddings.zero_()
    assert torch.equal(memvir.virtual_classes().flat(NUM_CLASSES)[0], batches[1][0])


def test_virtual_classes_name_the_steps_that_left_them():
    memvir = norm_softmax(num_steps=3, step_gap=1, warmup_steps=2)
    seen = []
    for x, y in ragged(0, 12):
        virtual = memvir.virtual_classes()
        seen.append(sorted(virtual.steps) if virtual else [])
        memvir(x, y)
    assert seen[:6] == [[], [], [], [], [2], [3]]
    assert seen[6:] == [[2, 4], [3, 5], [2, 4, 6], [3, 5, 7], [4, 6, 8], [5, 7, 9]]


def test_deepcopy_and_pickle_carry_the_memory():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    for twin in (copy.deepcopy(memvir), pickle.loads(pickle.dumps(memvir))):
        assert twin.step == 5 and twin.W is not memvir.W
        expected = copy.deepcopy(memvir)
        for a, b in zip(train(twin, ragged(1, 6)), train(expected, ragged(1, 6))):
            assert torch.equal(a, b)


def test_a_copy_of_a_compiled_loss_is_its_own():
    """`compile()` leaves a function that is bound to the one it is called on."""
    pytest.importorskip("torch._dynamo", reason="no compiler here")
    memvir = norm_softmax(num_steps=2, step_gap=1)
    memvir.compile(backend="eager")
    for twin in (copy.deepcopy(memvir), pickle.loads(pickle.dumps(memvir))):
        train(twin, ragged(0, 3))
        assert (twin.step, memvir.step) == (3, 0)


def test_epochs_to_steps():
    dataset = torch.utils.data.TensorDataset(torch.randn(10, 3))
    assert epochs_to_steps(3, torch.utils.data.DataLoader(dataset, 4)) == 9
    assert epochs_to_steps(0, range(7)) == 0
    with pytest.raises(ValueError, match="num_epochs must be >= 0, got -1"):
        epochs_to_steps(-1, range(7))
    with pytest.raises(TypeError, match="trainer or a data loader .* got int"):
        epochs_to_steps(1, 7)


def test_settings_that_can_and_cannot_be_changed():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    for name in ("num_steps", "step_gap", "num_virtual_steps"):
        with pytest.raises(AttributeError):
            setattr(memvir, name, 5)
    with pytest.raises(TypeError, match="warmup_steps must be an integer, got 'a'"):
        memvir.warmup_steps = "a"
    memvir.warmup_steps = 3
    train(memvir, ragged(0, 5))
    assert memvir.virtual_classes().steps == (3,)
    shown = "num_steps=2, step_gap=1, warmup_steps=3, snapshot_every=1, class_weights"
    assert shown in repr(memvir)


def test_raising_the_warm_up_in_mid_run_leaves_no_stale_snapshots():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    train(memvir, ragged(0, 4))
    memvir.warmup_steps = 8
    seen = []
    for x, y in ragged(1, 7):
        memvir(x, y)
        seen.append(memvir.num_virtual_steps)
    assert seen == [2, 1, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_any_integer_type(dtype):
    memvir, expected = (norm_softmax(num_steps=2, step_gap=0) for _ in range(2))
    for x, y in ragged(0, 5):
        assert torch.equal(memvir(x, y.to(dtype)), expected(x, y))


def test_non_finite_class_weights_are_not_remembered_and_said_once():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    x, y = ragged(0, 1)[0]
    with torch.no_grad():
        memvir.W[0, 0] = float("nan")
    with pytest.warns(UserWarning, match="Step 0 has NaN or infinity"):
        memvir(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memvir(x, y)
    assert memvir.virtual_classes() is None and memvir.step == 2


def test_a_failed_step_leaves_the_counts_alone():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 3))
    assert memvir.num_virtual_steps == 1
    memvir.reset_memory()
    train(memvir, ragged(1, 1))
    memvir.scale = None
    with pytest.raises(TypeError):
        train(memvir, ragged(2, 1))
    assert memvir.num_virtual_steps == 0 and memvir.step == 4


def test_miners_in_eval_mode():
    memvir = norm_softmax(num_steps=2, step_gap=0).eval()
    x, y = ragged(0, 1)[0]
    mined = (torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(memvir(x, y, mined), memvir.loss(x, y, mined))
    assert not torch.equal(memvir(x, y, mined), memvir(x, y))


def test_collect_stats_is_taken():
    assert not norm_softmax(num_steps=1, step_gap=0).collect_stats
    assert norm_softmax(num_steps=1, step_gap=0, collect_stats=True).collect_stats


@pytest.mark.parametrize("case", CASES, ids=names)
@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_no_random_number_is_drawn(case, algorithm):
    """So both arms of a comparison see the same images, to the last step."""
    batches = ragged(0, 4)
    memvir = MemVir(case.loss(), num_steps=2, step_gap=0, algorithm=algorithm)
    before = torch.get_rng_state()
    train(memvir, batches)
    assert memvir.num_virtual_steps == 2
    assert torch.equal(torch.get_rng_state(), before)


SETTINGS = {
    "num_steps": 2,
    "step_gap": 3,
    "accumulation_steps": 1,
    "snapshot_every": 2,
    "class_weights_every": 4,
    "algorithm": "concatenation",
    "chunk_steps": 7,
    "memory_dtype": torch.float32,
    "memory_device": "cpu",
    "gather": True,
    "on_non_finite": "raise",
}


def test_settings_can_be_read_and_what_is_fixed_cannot_be_set():
    memvir = norm_softmax(**SETTINGS)
    for name, value in SETTINGS.items():
        assert getattr(memvir, name) == value
        with pytest.raises(AttributeError, match=name):
            setattr(memvir, name, value)


@pytest.mark.parametrize("name", ["gather", "save_memory"])
def test_switches_are_true_or_false(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
        norm_softmax(num_steps=1, step_gap=0, **{name: "no"})


@pytest.mark.parametrize(
    "has", [{"weight": torch.ones(NUM_CLASSES)}, {"ignore_index": 0}]
)
def test_a_cross_entropy_with_something_for_each_class_is_refused(has):
    loss = pml_losses.CosFaceLoss(NUM_CLASSES, EMBEDDING_SIZE)
    loss.cross_entropy = torch.nn.CrossEntropyLoss(reduction="none", **has)
    with pytest.raises(ValueError, match="neither a weight nor an ignore_index"):
        MemVir(loss, 1, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda memvir: memvir(*ragged(0, 1)[0]),
        lambda memvir: memvir.state_dict(),
        lambda memvir: memvir.load_state_dict({}, strict=False),
        lambda memvir: torch.nn.ModuleList([memvir]).load_state_dict({}, strict=False),
        lambda memvir: memvir.end_step(),
        lambda memvir: memvir.reset_memory(),
        lambda memvir: memvir.allocate_memory(4),
        lambda memvir: memvir.virtual_classes(),
        copy.deepcopy,
        pickle.dumps,
    ],
)
def test_a_thread_waits_until_another_has_done(change):
    memvir = norm_softmax(num_steps=1, step_gap=0)
    train(memvir, ragged(0, 2))
    done = threading.Event()

    def work():
        change(memvir)
        done.set()

    other = threading.Thread(target=work)
    with memvir._turn.lock:
        other.start()
        assert not done.wait(timeout=0.3)
    other.join()
    assert done.is_set()
