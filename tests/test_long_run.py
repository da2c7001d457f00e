"""Thousands of steps with faults at random against the oracle; no leak of memory."""

import copy
import io
import pickle
import random
import warnings

import psutil
import pytest
import torch

from pml_memvir import MemVir, losses
from pml_memvir.core.storage import Storage

from .catalog import BY_NAME, NUM_CLASSES, batch
from .reference import NaiveMemVir, relative_error

NUM_STEPS, STEP_GAP = 3, 2
SPAN = NUM_STEPS * (STEP_GAP + 1)
FAULTS = {
    "train": 60,
    "resume": 6,  # killed: all that is left is a checkpoint
    "copy": 3,
    "pickle": 3,
    "non-finite embeddings": 6,
    "non-finite weights": 3,
    "reset": 2,
    "eval": 6,
    "no grad": 4,
    "dtype": 2,
    "refused batch": 3,
    "refused state": 2,
}


def resumed(memvir, make):
    file = io.BytesIO()
    torch.save(memvir.state_dict(), file)
    file.seek(0)
    other = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize(
    "name, memory_device",
    [
        ("NormSoftmax", "same"),
        ("NormSoftmax", "cpu"),
        ("ArcFaceLoss", "cpu"),
        ("SoftTripleLoss", "same"),
        ("ProxyAnchorLoss", "cpu"),
    ],
)
def test_random_faults(name, memory_device, monkeypatch):
    case = BY_NAME[name]
    if memory_device == "cpu":  # as if that were not where it is computed
        monkeypatch.setattr(
            Storage, "is_elsewhere", staticmethod(lambda *devices: True)
        )

    def make():
        torch.manual_seed(0)
        loss = case.loss()
        return MemVir(loss, NUM_STEPS, STEP_GAP, 4, memory_device=memory_device)

    memvir = make()
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, NUM_STEPS, STEP_GAP, 4)
    generator = torch.Generator().manual_seed(0)
    draw, faults, exact_from = random.Random(0), [*FAULTS], 0
    bad_batches = 0
    for event in draw.choices(faults, [*FAULTS.values()], k=1000):
        x, y = batch(generator, draw.randint(1, 7))
        weight = case.weight(memvir.loss)
        if event == "resume":
            memvir = resumed(memvir, make)
        elif event == "copy":
            memvir = copy.deepcopy(memvir)
        elif event == "pickle":
            memvir = pickle.loads(pickle.dumps(memvir))
        elif event == "reset":
            memvir.reset_memory()
            naive.reset_memory()
        elif event == "eval":
            memvir.eval()
            memvir(x, y)
            memvir.train()
        elif event == "no grad":
            with torch.no_grad():
                memvir(x, y)
        elif event == "dtype":
            # The memory follows at the next step, so one is made in float32.
            memvir.float()
            memvir(x.float(), y)
            memvir.double()
            naive(x.float().double(), y, case.rows(weight.detach()).float().double())
            exact_from = naive.step + SPAN
        elif event == "refused batch":
            with pytest.raises(ValueError):
                memvir(x, y + NUM_CLASSES)
        elif event == "refused state":
            state = copy.deepcopy(memvir.state_dict())
            state["memory.keys"] = torch.zeros(0)
            with pytest.raises(ValueError):
                memvir.load_state_dict(state)
        else:
            saved = weight.detach().clone()
            if event == "non-finite embeddings":
                x[0, 0] = draw.choice([float("nan"), float("inf")])
            if event == "non-finite weights":
                with torch.no_grad():
                    weight.view(-1)[0] = float("nan")
            is_finite = event == "train"
            bad_batches += not is_finite
            tolerance = 1e-9 if naive.step >= exact_from else 1e-4
            expected = naive(x, y, case.rows(weight.detach()))
            weight.grad = None
            inputs = x.clone().requires_grad_()
            value = memvir(inputs, y)
            value.backward()
            assert memvir.step == naive.step
            if is_finite:
                pairs = {
                    "loss": (value.detach(), expected.loss),
                    "embeddings": (inputs.grad, expected.embedding_grad),
                    "weights": (case.rows(weight.grad), expected.weight_grad),
                }
                for what, (mine, theirs) in pairs.items():
                    error = relative_error(mine, theirs)
                    assert error <= tolerance, (what, memvir.step)
            assert memvir.num_virtual_steps == expected.num_virtual_steps
            with torch.no_grad():
                step = 0.02 * weight.grad if is_finite else 0.0
                weight.copy_(saved - step)
    assert memvir.step > 500 and memvir.num_non_finite == bad_batches > 30


@pytest.mark.filterwarnings("ignore:The class weights have not changed")
def test_resident_memory_stays_flat():
    """5,000 steps; what is allocated by the first 1,000 is all that is needed."""
    torch.manual_seed(0)
    memvir = MemVir(losses.NormSoftmax(20, 16), 3, 2)
    x = torch.nn.functional.normalize(torch.randn(50, 16, 16))
    y = torch.randint(20, (50, 16))
    process = psutil.Process()
    before = 0
    for step in range(5_000):
        if step == 1_000:
            before = process.memory_info().rss
        memvir.zero_grad()
        memvir(x[step % 50].requires_grad_(), y[step % 50]).backward()
        x.grad = None
    # One snapshot is 2.7 kB: had each been kept, there would be 10 MB more.
    assert process.memory_info().rss - before < 5e6
    assert memvir.memory_nbytes == MemVir.estimate_nbytes(3, 2, 20, 16, 16)


def test_nothing_is_said_twice():
    memvir = MemVir(losses.NormSoftmax(5, 4), 2, 1)
    bad = torch.full((3, 4), float("nan"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(20):
            memvir(bad, torch.arange(3))
    assert len(caught) == 1 and caught[0].filename == __file__
