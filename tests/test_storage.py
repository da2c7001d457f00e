"""Where the memory lies, and in what precision."""

import copy
import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pml_memvir import MemVir, losses
from pml_memvir.core import memory, storage
from pml_memvir.core.ahead import CopiedAhead
from pml_memvir.core.form import unit
from pml_memvir.core.storage import Storage

from .catalog import BY_NAME, CASES, NUM_CLASSES, names, norm_softmax, ragged, train
from .reference import NaiveMemVir
from .test_against_reference import compare


@pytest.fixture
def always_copied(monkeypatch):
    """Treat the CPU's memory as if it were not the device that computes."""
    monkeypatch.setattr(
        Storage, "is_elsewhere", staticmethod(lambda storage, device: True)
    )


@pytest.mark.parametrize("step_gap", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_rows_that_are_copied_ahead(case, step_gap, algorithm, always_copied):
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, step_gap, algorithm=algorithm, memory_device="cpu")
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, step_gap)
    compare(case, memvir, naive, ragged(0, 5 * (step_gap + 1)))
    assert memvir._memory.storage.ahead is not None


@pytest.fixture
def fetched(monkeypatch):
    """Rows that are copied, by name."""
    rows = {"class_weights": [], "embeddings": []}
    fetch = CopiedAhead.fetch

    def counted(self, wanted, tensors):
        for name, row in wanted.items():
            if self._tracks.get(name) != row:  # else it is there
                rows[name].append(row)
        fetch(self, wanted, tensors)

    monkeypatch.setattr(CopiedAhead, "fetch", counted)
    return rows


def test_only_what_is_needed_next_is_copied(always_copied, fetched):
    memvir = norm_softmax(num_steps=2, step_gap=2, memory_device="cpu")
    train(memvir, ragged(0, 9))
    # From step 2 on, each fetches the row of the next; the first two have none to meet.
    for rows in fetched.values():
        assert rows[-7:] == [0, 1, 2, 0, 1, 2, 0] and len(rows) <= 9


def test_shared_class_weights_are_copied_once_a_stretch(always_copied, fetched):
    memvir = norm_softmax(
        num_steps=2, step_gap=2, class_weights_every=3, memory_device="cpu"
    )
    train(memvir, ragged(0, 12))
    assert fetched["embeddings"][-6:] == [1, 2, 0, 1, 2, 0]
    # Of the first three stretches (when the first step of each has brought them), and
    # of the fourth's.
    assert len(fetched["class_weights"]) <= 4 + 1


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_and_states_of_a_copied_memory(twin, always_copied):
    memvir = norm_softmax(num_steps=2, step_gap=1, memory_device="cpu")
    train(memvir, ragged(0, 5))
    other = twin(memvir)
    third = norm_softmax(num_steps=2, step_gap=1)
    third.load_state_dict(memvir.state_dict())
    batches = ragged(1, 8)
    for values in zip(*(train(m, batches) for m in (memvir, other, third))):
        assert values[0] == values[1] == values[2]


def test_a_block_is_copied_once(always_copied, fetched):
    """Its steps meet the same row."""
    memvir = norm_softmax(
        num_steps=2, step_gap=3, snapshot_every=4, memory_device="cpu"
    )
    train(memvir, ragged(0, 16))
    for rows in fetched.values():
        rows.clear()
    train(memvir, ragged(1, 4))
    # The snapshot is written, and the row fetched anew.
    assert fetched == {"class_weights": [0], "embeddings": [0]}


def test_a_write_that_fails_is_done_again(monkeypatch):
    """Not new class weights beside old embeddings: the step counts, as a whole."""
    memvir, undisturbed = (norm_softmax(num_steps=2, step_gap=0) for _ in range(2))
    for one in (memvir, undisturbed):
        train(one, ragged(0, 4))
    fill, calls = memory.fill, []

    def fail_in_the_middle(target, values):
        calls.append(target)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        fill(target, values)

    monkeypatch.setattr(memory, "fill", fail_in_the_middle)
    monkeypatch.setattr(storage, "fill", fail_in_the_middle)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(memvir, ragged(1, 1))
    monkeypatch.undo()
    train(undisturbed, ragged(1, 1))
    assert memvir.step == 5
    assert train(memvir, ragged(2, 4)) == train(undisturbed, ragged(2, 4))


def test_a_larger_batch_in_mid_run(always_copied):
    memvir = norm_softmax(num_steps=2, step_gap=0, memory_device="cpu")
    naive = NaiveMemVir(BY_NAME["NormSoftmax"].inner(), NUM_CLASSES, 2, 0)
    batches = sorted(ragged(0, 10), key=lambda batch: len(batch[1]))
    compare(BY_NAME["NormSoftmax"], memvir, naive, batches)


@pytest.mark.parametrize("value", ["gpu", "cuda", None, torch.device("cpu")])
def test_other_devices_are_refused(value):
    with pytest.raises(ValueError, match="memory_device must be one of .'same', 'cpu'"):
        norm_softmax(num_steps=2, step_gap=1, memory_device=value)


def test_moved_between_dtypes_in_mid_run():
    """To float32 and back: the memory follows, with the precision that is left."""
    memvir, expected = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    batches = ragged(0, 18)
    train(memvir, batches[:6])
    memvir.float()
    for x, y in batches[6:12]:
        memvir(x.float().requires_grad_(), y)
    assert (
        memvir._memory.storage.contents.tensors["class_weights"].dtype == torch.float32
    )
    memvir.double()
    train(expected, batches[:12])
    for a, b in zip(train(memvir, batches[12:]), train(expected, batches[12:])):
        assert a.dtype == torch.float64 and abs(a - b) < 1e-5 * abs(b)


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
def test_a_short_batch_after_a_bad_one_finds_no_trace_of_it():
    """The cell of the bad batch is written again, by fewer rows than it had."""
    memvir = norm_softmax(num_steps=2, step_gap=0)
    naive = NaiveMemVir(BY_NAME["NormSoftmax"].inner(), NUM_CLASSES, 2, 0)
    sizes = [6, 6, 6, 2, 2, 6, 2, 6]
    x = ragged(0, 1)[0][0]
    generator = torch.Generator().manual_seed(0)
    batches = []
    for step, size in enumerate(sizes):
        x = torch.nn.functional.normalize(
            torch.randn(size, 6, generator=generator).double()
        )
        if step == 1:
            x[-1, 0] = float("nan")
        batches.append((x, torch.arange(size) % NUM_CLASSES))
    case = BY_NAME["NormSoftmax"]
    weight = case.weight(memvir.loss)
    for x, y in batches:
        expected = naive(x, y, case.rows(weight.detach()))
        weight.grad = None
        value = memvir(x.clone().requires_grad_(), y)
        value.backward()
        if expected.loss.isfinite():
            assert abs(value - expected.loss) < 1e-12
            assert (case.rows(weight.grad) - expected.weight_grad).norm() < 1e-12


def test_a_dtype_that_is_too_small_makes_holes():
    """Embeddings of 10^5 are infinite in float16; the loss of that step is not."""
    torch.manual_seed(0)
    loss = losses.Softmax(5, 6)
    memvir = MemVir(loss, 2, 0, memory_dtype=torch.float16)
    x, y = ragged(0, 1)[0]
    x = x.float()
    with pytest.warns(UserWarning, match="Step 1 has NaN or infinity"):
        values = [memvir(f * x, y) for f in (1, 1e5, 1, 1)]
    assert all(value.isfinite() for value in values)
    assert memvir.num_non_finite == 1 and memvir.virtual_classes().steps == (2, 3)
    memvir.load_state_dict(memvir.state_dict())


@pytest.mark.parametrize("memory_dtype", [None, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_the_memory_is_copied_no_more_than_its_largest_batch_asks_for(
    case, dtype, memory_dtype, monkeypatch
):
    """Whatever the dtypes of weights, embeddings and memory are."""
    memvir = MemVir(case.loss().to(dtype), 2, 1, memory_dtype=memory_dtype)
    batches = [(x.float(), y) for x, y in ragged(0, 4)]
    train(memvir, batches)
    monkeypatch.setattr(storage, "allocate", None)
    train(memvir, 2 * batches)
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("how", ["load", "half"])
def test_snapshots_too_large_for_their_new_dtype_become_holes(how):
    torch.manual_seed(0)
    memvir = MemVir(losses.Softmax(5, 6), 2, 0)
    (x, y), *_ = ragged(0, 1)
    for factor in (1, 1e5):
        memvir(factor * x.float(), y)
    if how == "load":
        state = memvir.state_dict()
        memvir = MemVir(losses.Softmax(5, 6), 2, 0, memory_dtype=torch.float16)
        memvir.load_state_dict(state)
    else:
        memvir.half()
    dtype = memvir.W.dtype
    try:
        memvir(x.to(dtype), y)
    except RuntimeError as error:
        assert how == "half" and "not implemented for 'Half'" in str(error)
        pytest.skip("this PyTorch has no products of float16 on the CPU")
    assert memvir.num_virtual_steps == 1  # not 2: step 1 is a hole
    assert memvir.virtual_classes().steps == (2,)  # step 0 is too old
    for _ in range(3):
        memvir.zero_grad()
        value = memvir(x.to(dtype), y)
        value.backward()
        assert value.isfinite() and memvir.W.grad.isfinite().all()
    assert memvir.num_virtual_steps == 2


def test_each_spawned_process_has_a_memory_of_its_own():
    """torch.multiprocessing sends tensors as shared memory."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 3))
    expected = train(copy.deepcopy(memvir), ragged(1, 6))
    received = [pickle.loads(bytes(ForkingPickler.dumps(memvir))) for _ in range(2)]
    found = []
    for batch in ragged(1, 6):  # in turn, as processes would
        train(memvir, [batch, batch])
        train(received[0], [batch, batch])
        found += train(received[1], [batch])
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_a_deepcopy_copies_once(monkeypatch):
    """All tensors on a GPU say that they are shared."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 3))
    monkeypatch.setattr(torch.Tensor, "is_shared", lambda tensor: True)
    monkeypatch.setattr(storage, "_own", None)
    twin = copy.deepcopy(memvir)
    monkeypatch.undo()
    for a, b in zip(train(memvir, ragged(1, 6)), train(twin, ragged(1, 6))):
        assert torch.equal(a, b)


def test_only_lack_of_memory_is_told_as_such(monkeypatch):
    memvir = norm_softmax(num_steps=2, step_gap=1)

    def fail(*_, **__):
        raise RuntimeError(said)

    for said, error in (
        ("CUDA error: an illegal memory access was encountered", RuntimeError),
        ("CUDA out of memory", MemoryError),
    ):
        with monkeypatch.context() as patched, pytest.raises(error):
            patched.setattr(torch, "empty", fail)
            memvir.allocate_memory(8)


def test_vectors_that_are_brought_to_unit_length_in_part(monkeypatch):
    """What was interrupted is done again, and is no change by somebody else."""
    memvir = MemVir(losses.Softmax(5, 6).double(), 2, 1)
    train(memvir, ragged(0, 5))
    held, calls = memvir._memory.storage, []
    form = replace(held.contents.size.form, embeddings=2, class_weights=2)

    def unit_of_two(vectors, p):
        calls.append(p)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return unit(vectors, p)

    monkeypatch.setattr(storage, "unit", unit_of_two)
    with pytest.raises(KeyboardInterrupt):
        held.adapt(form)
    assert not held.was_written_to()
    assert held.adapt(form) == ""
    lengths = held.contents.tensors["class_weights"].norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths))


def test_logits_that_overflow_leave_a_hole():
    """Of vectors that are finite."""
    memvir = MemVir(losses.Softmax(5, 6), 2, 0)
    x, y = ragged(0, 1)[0]
    with pytest.warns(UserWarning, match="Step 1 has NaN or infinity"):
        for step, factor in enumerate((1, 1e25, 1, 1)):
            with torch.no_grad():
                memvir.W *= factor
            assert memvir(factor * x.float(), y).isfinite() == (step != 1)
            assert memvir.W.isfinite().all()
            with torch.no_grad():
                memvir.W /= factor
    assert (memvir.num_non_finite, memvir.num_virtual_steps) == (1, 1)


def test_numbers_kept_with_snapshots_may_overflow_as_well():
    """Logits of 10^45 in float64; what they are made of is finite in float32, too."""
    memvir = MemVir(losses.Softmax(5, 6).double(), 2, 0)
    x, y = ragged(0, 1)[0]
    with torch.no_grad():
        memvir.W *= 1e20
    memvir(1e25 * x, y)
    memvir.float()
    with torch.no_grad():
        memvir.W /= 1e20
    for _ in range(3):
        assert memvir(x.float(), y).isfinite()
    assert memvir.num_non_finite == 0


class StoragesUsed(TorchDispatchMode):
    """Notes the storages of all arguments of all operations within it."""

    def __init__(self):
        super().__init__()
        self.used = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for x in tree_flatten((args, kwargs))[0]:
            if isinstance(x, torch.Tensor):
                self.used.add(x.untyped_storage().data_ptr())
        return function(*args, **(kwargs or {}))


def test_a_stream_reads_nothing_that_others_may_change(always_copied, monkeypatch):
    """It may be late: the optimiser may have moved the class weights by then."""
    stream = StoragesUsed()
    monkeypatch.setattr(CopiedAhead, "_on_stream", lambda _: stream)
    memvir = MemVir(losses.Softmax(5, 6), 2, 5, memory_device="cpu")
    x, y = ragged(0, 1)[0]
    embeddings = x.float()
    memvir(embeddings, y)
    stored = memvir._memory.storage.contents.tensors["class_weights"]
    assert stored.untyped_storage().data_ptr() in stream.used
    for tensor in (memvir.W, embeddings):
        assert tensor.untyped_storage().data_ptr() not in stream.used


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), None]
)
def test_what_is_made_under_inference_mode_can_be_trained(twin):
    memvir, expected = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    if twin is not None:
        train(memvir, ragged(0, 5))
        train(expected, ragged(0, 5))
    with torch.inference_mode():
        if twin is None:
            memvir.allocate_memory(6)
        else:
            memvir._memory = twin(memvir._memory)
    if twin is None:
        assert train(memvir, ragged(1, 6)) == train(expected, ragged(1, 6))
    else:
        steps = range(memvir.step, memvir.step + 4)
        assert [memvir._memory.num_met(step) for step in steps] == [2, 2, 2, 2]
        storage = memvir._memory.storage.contents.tensors
        assert not any(tensor.is_inference() for tensor in storage.values())
