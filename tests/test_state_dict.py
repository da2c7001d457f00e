"""A state dict of tensors, and what tools do with any state dict."""

import copy
import io
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pml_memvir import MemVir, losses
from pml_memvir.state import text as in_text

from .catalog import BY_NAME, norm_softmax, ragged, train

OLD = Path(__file__).parent / "data" / "state_version_1.pth"


class Whole(torch.nn.Module):
    def __init__(self, classes=6, **settings):
        super().__init__()
        self.net = torch.nn.Linear(8, 8)
        self.loss = MemVir(losses.NormSoftmax(classes, 8), 2, 1, **settings)

    def train_steps(self, count=6, seed=0):
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        values = []
        for _ in range(count):
            x = torch.nn.functional.normalize(
                self.net(torch.randn(5, 8, generator=generator))
            )
            loss = self.loss(x, torch.randint(6, (5,), generator=generator))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.detach())
        return values


@pytest.fixture(params=[True, False], ids=["memory", "no memory"])
def model(request):
    torch.manual_seed(0)
    model = Whole(save_memory=request.param)
    model.train_steps()
    return model


def assert_starts_anew(model):
    """It trains on, with an empty memory that fills again."""
    assert all(value.isfinite() for value in model.train_steps(2))
    assert model.loss.num_virtual_steps == 0
    model.train_steps(4)
    assert model.loss.num_virtual_steps == 2


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
def test_nothing_but_tensors(model):
    state = model.state_dict()
    assert all(type(value) is torch.Tensor for value in state.values())
    assert state["loss.memory.calls"].shape == ()
    assert not dict(model.loss.named_buffers())
    assert sum(value.numel() for value in state.values()) > 0
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other = Whole()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.loss.step == 6


def test_an_average_over_the_values(model):
    """As in place in a copy's state dict, which is live."""
    shadow = copy.deepcopy(model)
    model.train_steps(3, seed=1)
    with torch.no_grad():
        for mine, new in zip(shadow.state_dict().values(), model.state_dict().values()):
            mine.copy_(0.9 * mine + 0.1 * new)
    if model.loss.save_memory:
        with pytest.warns(UserWarning, match="changed in place, and are no snapshots"):
            assert_starts_anew(shadow)
        assert shadow.loss.num_emptied == 1


def test_an_average_of_floating_points(model):
    shadow = copy.deepcopy(model)
    model.train_steps(3, seed=1)
    new = model.state_dict()
    for name, mine in shadow.state_dict().items():
        if mine.is_floating_point():
            mine.mul_(0.9).add_(new[name], alpha=0.1)
    if model.loss.save_memory:
        with pytest.warns(UserWarning, match="no snapshots"):
            assert_starts_anew(shadow)


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
@pytest.mark.parametrize("trained", [False, True])
def test_what_fits_another_number_of_classes(model, trained):
    other = Whole(classes=9)
    if trained:
        other.train_steps(4)
    mine = other.state_dict()
    fits = {
        name: value
        for name, value in model.state_dict().items()
        if name in mine and value.shape == mine[name].shape
    }
    assert "loss.loss.W" not in fits and "net.weight" in fits
    if model.loss.save_memory or not trained:
        other.load_state_dict(fits, strict=False)
    assert all(value.isfinite() for value in other.train_steps(6))


@pytest.mark.parametrize("steps", [0, 3])
def test_an_average_of_checkpoints(model, steps):
    """Even of two that have as many steps."""
    first = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    other = Whole(save_memory=model.loss.save_memory)
    other.train_steps(6 + steps)
    second = other.state_dict()
    with pytest.warns(UserWarning, match="no memory"):
        model.load_state_dict({k: (first[k] + second[k]) / 2 for k in first})
    assert model.loss.step == 6 + steps // 2
    assert_starts_anew(model)


def test_a_cast(model):
    with pytest.warns(UserWarning, match="no memory"):
        model.load_state_dict(
            {
                name: value.half() if value.is_floating_point() else value
                for name, value in model.state_dict().items()
            }
        )
    assert_starts_anew(model)


def test_the_best_weights_kept_on_the_cpu():
    torch.manual_seed(0)
    model, twin = Whole(), Whole()
    model.train_steps()
    best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    expected = model.train_steps(4, seed=1)
    twin.load_state_dict(best)
    assert twin.train_steps(4, seed=1) == expected


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_model(model, use_buffers):
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers
    )
    model.train_steps(2, seed=1)
    average.update_parameters(model)
    assert average.module.loss.memory_nbytes == model.loss.memory_nbytes
    other = AveragedModel(Whole())
    other.load_state_dict(average.state_dict())
    assert other.module.loss.step == 6
    assert len(other.module.train_steps(3)) == 3


def test_a_deepcopy_goes_on_as_the_original():
    torch.manual_seed(0)
    model = Whole()
    model.train_steps()
    twin = copy.deepcopy(model)
    assert twin.train_steps(5, seed=1) == model.train_steps(5, seed=1)


def test_functional_call_on_the_wrapper():
    """With other class weights: a step as any, which is remembered with those."""
    memvir, expected = (norm_softmax(num_steps=2, step_gap=0) for _ in range(2))
    weight = memvir.W.detach() * -1
    with torch.no_grad():
        expected.W.mul_(-1)
    for x, y in ragged(0, 5):
        value = torch.func.functional_call(memvir, {"loss.W": weight}, (x, y))
        assert torch.equal(value, expected(x, y))
    assert memvir.num_virtual_steps == 2


# ------------------------------------------------ tools that fill what is there already


def test_a_memory_that_is_laid_out_before_the_first_step():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    memvir.allocate_memory(6)
    size = memvir.memory_nbytes
    assert size == MemVir.estimate_nbytes(2, 1, 5, 6, 6, torch.float64)
    undisturbed = norm_softmax(num_steps=2, step_gap=1)
    batches = ragged(0, 12)
    assert train(memvir, batches) == train(undisturbed, batches)
    assert memvir.memory_nbytes == size
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        memvir.allocate_memory(0)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("steps_before", [0, 3])
def test_distributed_checkpoint(tmp_path, steps_before):
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    if not hasattr(dcp, "save"):
        pytest.skip("PyTorch 2.1 has other functions for it")
    torch.manual_seed(0)
    source, target = Whole(), Whole()
    source.train_steps(10)
    dcp.save(source.state_dict(), checkpoint_id=tmp_path)
    expected = source.train_steps(5, seed=1)
    target.train_steps(steps_before)
    target.loss.allocate_memory(5)
    state = target.state_dict()
    dcp.load(state, checkpoint_id=tmp_path)
    target.load_state_dict(state)
    assert target.loss.step == 10
    assert target.train_steps(5, seed=1) == expected


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip(
        "safetensors.torch", reason="comes with the extra examples"
    )
    torch.manual_seed(0)
    source, target = Whole(), Whole()
    source.train_steps()
    safetensors.save_model(source, str(tmp_path / "model.safetensors"))
    safetensors.load_model(target, str(tmp_path / "model.safetensors"))
    assert target.train_steps(5, seed=1) == source.train_steps(5, seed=1)


# -------------------------------------------------------------- states of version 1


@pytest.mark.parametrize("name", ["NormSoftmax", "ProxyAnchorLoss", "P2SGradLoss"])
def test_a_state_of_version_1(name):
    """Saved by the version before, with what it computed from there on."""
    old = torch.load(OLD, weights_only=True)[name]
    every = 2 if name == "ProxyAnchorLoss" else 1
    memvir = MemVir(BY_NAME[name].loss(), 2, 1, snapshot_every=every)
    memvir.load_state_dict(old["state"])
    assert memvir.step == 9 and memvir.warmup_steps == 1
    values = torch.stack(train(memvir, ragged(1, 8)))
    assert torch.allclose(values, old["values"], rtol=1e-9)
    again = MemVir(BY_NAME[name].loss(), 2, 1, snapshot_every=every)
    again.load_state_dict(memvir.state_dict())
    assert again.step == 17


def test_a_state_of_version_2():
    """It had other names."""
    memvir, other = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    train(memvir, ragged(0, 9))
    state = memvir.state_dict()
    old = {"terms": "own", "lse": "against", "note_settings": "keys"}
    for new, name in old.items():
        state[f"memory.{name}"] = state.pop(f"memory.{new}")
    state["memory.version"] -= 1
    other.load_state_dict(state)
    assert train(other, ragged(1, 5)) == train(memvir, ragged(1, 5))


def test_a_state_from_before_a_setting_was_there():
    memvir, other = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    train(memvir, ragged(0, 9))
    state = memvir.state_dict()
    text = in_text.unpack(state["memory.settings"])
    del text["settings"]["class_weights_every"], text["settings"]["snapshot_every"]
    state["memory.settings"] = in_text.pack(text)
    other.load_state_dict(state)
    assert train(other, ragged(1, 5)) == train(memvir, ragged(1, 5))
    sparse = norm_softmax(num_steps=2, step_gap=1, snapshot_every=2)
    with pytest.raises(ValueError, match="expected snapshot_every=2, got 1"):
        sparse.load_state_dict(state)


def test_a_state_of_version_1_of_other_settings():
    old = torch.load(OLD, weights_only=True)["NormSoftmax"]
    memvir = norm_softmax(num_steps=3, step_gap=1)
    with pytest.raises(ValueError, match="expected num_steps=3, got 2"):
        memvir.load_state_dict(old["state"])
    assert memvir.step == 0


@pytest.mark.parametrize("shape", [(3,), (1, 2, 0), (1, 2, 3, 0)])
def test_what_is_no_empty_tensor_completes_nothing(shape):
    memvir = norm_softmax(num_steps=2, step_gap=0)
    train(memvir, ragged(0, 4))
    state = memvir.state_dict() | {"memory.terms": torch.zeros(shape)}
    del state["memory.lse"]
    with pytest.raises(RuntimeError, match="memory.lse is missing|fit together"):
        norm_softmax(num_steps=2, step_gap=0).load_state_dict(state)


@pytest.mark.parametrize("name", ["terms", "lse"])
def test_one_of_two_empty_tensors_is_enough(name):
    """Accelerate takes them for one that is shared, and saves one of them."""
    memvir = norm_softmax(num_steps=2, step_gap=0, algorithm="concatenation")
    train(memvir, ragged(0, 4))
    state = memvir.state_dict()
    assert not state.pop(f"memory.{name}").numel()
    other = norm_softmax(num_steps=2, step_gap=0, algorithm="concatenation")
    other.load_state_dict(state)
    assert other.num_virtual_steps == 2
    more = ragged(1, 3)
    for a, b in zip(train(other, more), train(memvir, more)):
        assert torch.equal(a, b)
