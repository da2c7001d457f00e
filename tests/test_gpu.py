"""What needs a GPU, where there is one; the same on the CPU where there is none.

What a CPU cannot show: that the memory is pinned and its next cells come on a stream of
their own, that a bad batch is told of only later, float16 that overflows, the compiler.
"""

import copy
import sys

import pytest
import torch

from pml_memvir import MemVir

from .catalog import CASES, NUM_CLASSES, batch, names, norm_softmax, ragged, train
from .reference import NaiveMemVir
from .test_against_reference import compare
from .test_autocast import needs_autocast_in
from .test_precision import Model, fit

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
LOW = torch.float16 if GPU else torch.bfloat16


@pytest.mark.parametrize("memory_device", ["same", "cpu"])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_loss_and_both_gradients(case, memory_device, algorithm):
    """The oracle's, from the warm-up to the third wrap."""
    torch.manual_seed(0)
    settings = {"algorithm": algorithm, "memory_device": memory_device}
    memvir = MemVir(case.loss(), 3, 2, 2, **settings).to(DEVICE)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 3, 2, 2)
    compare(case, memvir, naive, ragged(1, 2 + 3 * 9 + 1), device=DEVICE)
    assert memvir.num_virtual_steps == 3


def test_class_weights_once_beside_a_memory_on_the_host():
    """Cells that arrive ahead are those that would be read at once."""
    settings = {"num_steps": 2, "step_gap": 3, "class_weights_every": 4}
    far = norm_softmax(**settings, memory_device="cpu").to(DEVICE)
    near = norm_softmax(**settings).to(DEVICE)
    for x, y in [(x.to(DEVICE), y.to(DEVICE)) for x, y in ragged(3, 30)]:
        got, expected = train(far, [(x, y)]), train(near, [(x, y)])
        assert torch.equal(got[0], expected[0])
    assert far.num_virtual_steps == 2


def test_a_copy_of_a_memory_on_the_host_is_pinned_as_well():
    memvir = norm_softmax(num_steps=2, step_gap=1, memory_device="cpu").to(DEVICE)
    batches = [(x.to(DEVICE), y.to(DEVICE)) for x, y in ragged(0, 6)]
    train(memvir, batches)
    twin = copy.deepcopy(memvir)
    for one in memvir, twin:
        assert one._memory.storage.contents.tensors["embeddings"].is_pinned() == GPU
    assert torch.equal(train(twin, batches)[0], train(memvir, batches)[0])


def test_moves_between_devices_lose_nothing():
    memvir, stays = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    batches = ragged(0, 15)
    for k, device in enumerate(["cpu", DEVICE, "cpu"]):
        memvir.to(device)
        part = batches[5 * k : 5 * k + 5]
        moved = [(x.to(device), y.to(device)) for x, y in part]
        got = torch.stack(train(memvir, moved)).cpu()
        assert torch.allclose(got, torch.stack(train(stays, part)), rtol=1e-12)
        assert memvir.num_virtual_steps == stays.num_virtual_steps


def test_a_state_is_loaded_on_another_device():
    memvir = norm_softmax(num_steps=2, step_gap=1).to(DEVICE)
    train(memvir, [(x.to(DEVICE), y.to(DEVICE)) for x, y in ragged(0, 9)])
    state = {name: value.cpu() for name, value in memvir.state_dict().items()}
    there, here = norm_softmax(num_steps=2, step_gap=1), copy.deepcopy(memvir)
    there.load_state_dict(state)
    x, y = batch(torch.Generator().manual_seed(1), 6)
    expected = train(here, [(x.to(DEVICE), y.to(DEVICE))])[0].cpu()
    assert torch.allclose(train(there, [(x, y)])[0], expected, rtol=1e-12)


def test_a_bad_batch_leaves_a_hole_also_where_that_is_known_later():
    memvir, expected = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    memvir.to(DEVICE)
    with pytest.warns(UserWarning, match="NaN or infinity"):
        for step, (x, y) in enumerate(ragged(0, 12)):
            if step == 4:
                x = torch.full_like(x, float("nan"))
            got = train(memvir, [(x.to(DEVICE), y.to(DEVICE))])[0].cpu()
            wanted = train(expected, [(x, y)])[0]
            assert torch.allclose(got, wanted, rtol=1e-12, equal_nan=True)
    assert memvir.num_non_finite == expected.num_non_finite == 1
    assert memvir.num_virtual_steps == expected.num_virtual_steps


@pytest.mark.parametrize("label", [-1, NUM_CLASSES, 10**6])
def test_labels_out_of_range_are_refused_at_the_latest_in_the_next_steps(label):
    memvir = norm_softmax(num_steps=2, step_gap=1).to(DEVICE)
    batches = [(x.to(DEVICE), y.to(DEVICE)) for x, y in ragged(0, 6)]
    batches[2][1][0] = label
    with pytest.raises(ValueError, match="labels .*0 to "):
        train(memvir, batches)
    assert memvir.step < 6


def test_autocast_with_a_grad_scaler():
    """The network in low precision, with a scale that first overflows in float16."""
    needs_autocast_in(LOW)
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this PyTorch has a GradScaler for CUDA only")
    model, plain = (Model(num_steps=2, step_gap=1).to(DEVICE) for _ in range(2))
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**16)
    values = fit(model, model, 30, scaler, dtype=LOW)
    assert torch.allclose(values, fit(plain, plain, 30), rtol=0.1)
    assert model.loss.num_non_finite == 0 and model.loss.W.dtype == torch.float32


def test_compiled():
    """By the default compiler on a GPU; without code generation on a CPU."""
    pytest.importorskip("torch._dynamo", reason="no compiler here")
    model, eager = (Model(num_steps=2, step_gap=1).to(DEVICE) for _ in range(2))
    compiled = torch.compile(model, backend="inductor" if GPU else "aot_eager")
    assert torch.allclose(fit(model, compiled, 12), fit(eager, eager, 12), rtol=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="no gloo over files there")
def test_ddp_in_one_process(tmp_path):
    """By nccl on a GPU. More processes than one: tests/test_distributed.py."""
    dist = pytest.importorskip("torch.distributed", reason="no processes here")
    backend = "nccl" if GPU else "gloo"
    where = f"file://{tmp_path / 'store'}"
    dist.init_process_group(backend, init_method=where, rank=0, world_size=1)
    try:
        memvir, alone = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
        gathers = norm_softmax(num_steps=2, step_gap=1, gather=True).to(DEVICE)
        wrapped = torch.nn.parallel.DistributedDataParallel(memvir.to(DEVICE))
        for x, y in ragged(0, 9):
            there = [(x.to(DEVICE), y.to(DEVICE))]
            wanted = train(alone, [(x, y)])[0]
            for one in (wrapped, gathers):
                assert torch.allclose(train(one, there)[0].cpu(), wanted, rtol=1e-12)
    finally:
        dist.destroy_process_group()
