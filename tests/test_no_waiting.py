"""No step makes the host wait for a GPU: by asking for a number, or by a copy."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from pytorch_metric_learning import trainers
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pml_memvir import MemVir
from pml_memvir.training import batch, deferred, processes

from .catalog import (
    BY_NAME,
    CASES,
    EMBEDDING_SIZE,
    FAST,
    names,
    on_the_gpu,
    ragged,
    train,
)
from .pml_runs import memvir, run

# Reading a number, and results whose size depends on numbers.
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal")


class Waits(TorchDispatchMode):
    """Names of operations for which the host would wait."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITS or by_mask:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


def waits_of(call):
    with Waits() as waits:
        call()
    return waits.names


# Labels are checked at once where they lie on a CPU, and only there.
LOWEST_AND_HIGHEST = ["_local_scalar_dense"] * 2


@pytest.mark.parametrize("settings", [{}, {"snapshot_every": 2}], ids=str)
@pytest.mark.parametrize("case", FAST, ids=names)
def test_steps_do_not_wait(case, settings):
    memvir = MemVir(case.loss(), 2, 1, **settings)
    train(memvir, ragged(0, 10))
    for x, y in ragged(1, 4):
        x.requires_grad_()
        assert waits_of(lambda: memvir(x, y).backward()) == LOWEST_AND_HIGHEST
        assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("case", CASES, ids=names)
def test_concatenation_and_evaluation_wait_only_where_the_loss_does(case):
    """Some of PML's losses read numbers, as P2SGrad does."""
    memvir = MemVir(case.loss(), 2, 1, algorithm="concatenation")
    train(memvir, ragged(0, 10))
    for x, y in ragged(1, 2):
        x.requires_grad_()
        alone = waits_of(lambda: memvir.loss(x, y).backward())
        step = waits_of(lambda: memvir(x, y).backward())
        assert step == LOWEST_AND_HIGHEST + alone
        assert memvir.num_virtual_steps == 2
    memvir.eval()
    with torch.no_grad():
        alone = waits_of(lambda: memvir.loss(x, y))
        assert waits_of(lambda: memvir(x, y)) == LOWEST_AND_HIGHEST + alone


def test_a_trainers_iteration_waits_as_often_as_without_memvir(train_set):
    def waits(loss):
        trainer = run(trainers.MetricLossOnly, train_set, {"metric_loss": loss})
        return waits_of(trainer.forward_and_backward)

    with_memvir = memvir()
    alone = waits(memvir().loss)
    assert waits(with_memvir) == alone + LOWEST_AND_HIGHEST
    assert with_memvir.num_virtual_steps == 2


def test_waiting_would_be_seen():
    with Waits() as waits:
        bool(torch.ones(3).sum() > 0)
        torch.ones(3)[torch.tensor([True, False, True])]
    assert waits.names == ["_local_scalar_dense", "index"]


# ------------------------------------------------------------- on a made-up GPU


class Copies(TorchDispatchMode):
    """Copies between devices for which the host waits.

    Reading a number from a made-up tensor raises, and so do tensors of two devices.
    """

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function.overloadpacket.__name__ == "_to_copy":
            devices = args[0].device.type, result.device.type
            if devices[0] != devices[1] and not kwargs.get("non_blocking", False):
                self.found.append(devices)
        return result


def copies(case, sizes, dtype=torch.float32, autocast=None, **settings):
    """Of the last four steps; no backward, which has no engine for such tensors."""
    loss = case.loss().float()
    with FakeTensorMode(allow_non_fake_inputs=True), autocasting(autocast):
        memvir = MemVir(on_the_gpu(loss), 2, 1, **settings)
        seen = Copies()
        for step, size in enumerate(sizes):
            x = torch.empty(size, EMBEDDING_SIZE, device="cuda", dtype=dtype)
            y = torch.empty(size, dtype=torch.long, device="cuda")
            with seen if step >= len(sizes) - 4 else nullcontext():
                memvir(x.requires_grad_(), y)
    assert memvir.num_virtual_steps == 2
    return seen.found


@contextmanager
def autocasting(dtype):
    """As torch.autocast, which refuses a GPU that is not there."""
    if dtype is None:
        yield
        return
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


class NoStream:
    """Nothing is queued on it."""

    def wait_stream(self, _):
        pass

    def synchronize(self):
        raise AssertionError("the host waits")


@pytest.fixture
def no_answers(monkeypatch):
    """Nobody can ask such a device, nor has it streams; and gradients that are taken
    within a forward call have no engine."""
    try:
        with FakeTensorMode():
            torch.empty(1, device="cuda")
    except RuntimeError as error:
        assert "NVIDIA driver" in str(error)
        pytest.skip("this PyTorch asks for a driver even for a made-up GPU")
    monkeypatch.setattr(deferred.DeferredAnswers, "put", lambda *_: None)
    monkeypatch.setattr(
        torch.autograd, "grad", lambda _, xs, **__: [torch.zeros_like(x) for x in xs]
    )
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: NoStream())
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _: True)


EVEN, RAGGED = (4,) * 9, (4, 3, 4, 2) * 3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"memory_device": "cpu"},
        {"autocast": torch.bfloat16},
        {"autocast": torch.float16, "dtype": torch.float16},
    ],
    ids=str,
)
@pytest.mark.parametrize("case", FAST, ids=names)
def test_nothing_is_copied_between_devices(case, settings, no_answers):
    assert copies(case, EVEN, **settings) == []


# All else reads numbers itself.
@pytest.mark.parametrize("name", ["NormSoftmax", "ProxyNCA", "SoftTripleLoss"])
def test_concatenation_mixes_no_devices(name, no_answers):
    assert copies(BY_NAME[name], EVEN, algorithm="concatenation") == []


def test_a_copy_that_waits_would_be_seen(no_answers):
    with FakeTensorMode(), Copies() as seen:
        torch.empty(2, device="cuda").to("cpu")
        torch.empty(2, device="cuda").to("cpu", non_blocking=True)
    assert seen.found == [("cuda", "cpu")]


def test_a_gathered_batch_is_checked_at_once(no_answers, monkeypatch):
    """Ranks must raise at the same time."""
    monkeypatch.setattr(processes, "gather", lambda *given: given[:3])
    with FakeTensorMode():
        x, y = torch.empty(4, 8, device="cuda"), torch.ones(4, device="cuda").long()
        assert batch.taken((x, y, None), None, (3, 8), True, None).misfits is not None
        with pytest.raises(DataDependentOutputException):
            batch.taken((x, y, None), None, (3, 8), True, x.device)


def test_a_trainers_step_on_a_gpu(train_set, no_answers, monkeypatch):
    """PML copies the batch itself; no other copy waits, and no devices are mixed."""
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_, **__: None)
    trainer = run(trainers.MetricLossOnly, train_set, {"metric_loss": memvir()})
    trainer.data_device = torch.device("cuda")
    images, _ = trainer.get_batch()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in (*trainer.models.values(), *trainer.loss_funcs.values()):
            on_the_gpu(module)
        labels = torch.empty(len(images), dtype=torch.long, device="cuda")
        monkeypatch.setattr(trainer, "get_batch", lambda: (images, labels))
        trainer.loss_funcs["metric_loss"].reset_memory()
        for _ in range(10):
            with Copies() as seen:
                trainer.forward_and_backward()
            assert seen.found == [("cpu", "cuda")]
    assert trainer.loss_funcs["metric_loss"].num_virtual_steps == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_steps": 1},
        {"memory_dtype": torch.bfloat16},
        {"dtype": torch.bfloat16},
        {"accumulation_steps": 2},
        {"snapshot_every": 2},
        {"class_weights_every": 2},
        {"class_weights_every": 2, "memory_device": "cpu"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["SoftTripleLoss", "ProxyAnchorLoss"])
def test_other_settings(name, settings, no_answers):
    assert copies(BY_NAME[name], EVEN * 2, **settings) == []


@pytest.mark.parametrize("name", ["NormSoftmax", "SoftTripleLoss", "ProxyAnchorLoss"])
def test_batches_of_different_size(name, no_answers):
    assert copies(BY_NAME[name], RAGGED) == []


@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_class_weights_that_the_loss_brings_to_the_gpu(
    algorithm, monkeypatch, no_answers
):
    """PML's losses do so in the step; the memory has come from a checkpoint."""
    case = BY_NAME["NormSoftmax"]
    source, memvir = (MemVir(case.loss(), 2, 1, algorithm=algorithm) for _ in range(2))
    train(source, ragged(0, 6))
    memvir.load_state_dict(source.state_dict())

    def cast_types(loss, dtype, device):
        """A made-up tensor cannot be set as `.data`."""
        shape = loss._parameters["W"].shape  # not that of a grown one
        made = torch.empty(shape, dtype=dtype, device=device)
        loss._parameters["W"] = torch.nn.Parameter(made)

    monkeypatch.setattr(type(memvir.loss), "cast_types", cast_types)
    with FakeTensorMode(allow_non_fake_inputs=True):
        memvir.loss.cast_types(torch.float64, torch.device("cpu"))
        x = torch.empty(6, EMBEDDING_SIZE, device="cuda", dtype=torch.float64)
        for _ in range(3):
            y = torch.zeros(6, dtype=torch.long, device="cuda")
            memvir(x.requires_grad_(), y)
    assert memvir.num_virtual_steps == 2
    stored = memvir._memory.storage.contents.tensors
    assert {tensor.device.type for tensor in stored.values()} == {"cuda"}
