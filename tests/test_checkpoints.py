"""The memory in checkpoints."""

import copy
import io

import pytest
import torch

from pml_memvir import MemVir, losses
from pml_memvir.state import text as memory_state

from .catalog import EMBEDDING_SIZE, NUM_CLASSES, norm_softmax, ragged, train


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("trained_before", [0, 4])
def test_a_checkpoint_resumes_where_it_was(trained_before):
    memvir = norm_softmax(num_steps=2, step_gap=1, warmup_steps=1)
    train(memvir, ragged(0, 6))
    state = saved_and_loaded(memvir.state_dict())
    other = norm_softmax(num_steps=2, step_gap=1)
    train(other, ragged(9, trained_before))
    other.load_state_dict(state)
    assert other.step == 6 and other.warmup_steps == 1
    assert other.num_virtual_classes == memvir.num_virtual_classes > 0
    batches = ragged(1, 9)
    for a, b in zip(train(memvir, batches), train(other, batches)):
        assert torch.equal(a, b)


def test_a_checkpoint_before_anything_is_remembered():
    memvir = norm_softmax(num_steps=2, step_gap=1, warmup_steps=9)
    train(memvir, ragged(0, 3))
    other = norm_softmax(num_steps=2, step_gap=1, warmup_steps=0)
    train(other, ragged(0, 5))
    other.load_state_dict(saved_and_loaded(memvir.state_dict()))
    assert other.step == 3 and other.memory_nbytes == 0


def test_state_between_forward_and_backward_is_complete():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    batches = ragged(0, 8)
    train(memvir, batches[:4])
    loss = memvir(batches[4][0], batches[4][1])
    state = saved_and_loaded(memvir.state_dict())
    loss.backward()
    other = norm_softmax(num_steps=2, step_gap=0)
    other.load_state_dict(state)
    for a, b in zip(train(memvir, batches[5:]), train(other, batches[5:])):
        assert torch.equal(a, b)


def test_a_checkpoint_loads_into_the_plain_loss():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 3))
    state = memvir.state_dict()
    plain = losses.NormSoftmax(NUM_CLASSES, EMBEDDING_SIZE)
    plain.load_state_dict({"W": state["loss.W"]})
    assert torch.equal(plain.W, memvir.W.float())


@pytest.mark.parametrize(
    "change", [{"num_steps": 3}, {"step_gap": 2}, {"loss": losses.Softmax(5, 6)}]
)
def test_a_checkpoint_of_other_settings_is_refused(change):
    """Not by a KeyError or OSError: PML's loaders take those for other things."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    settings = {"num_steps": 2, "step_gap": 1, "loss": losses.NormSoftmax(5, 6)}
    other = MemVir(**{**settings, **change})
    weight = other.W.detach().clone()
    with pytest.raises(
        ValueError, match=r"of another MemVir: expected \w+=\w+, got \w+\. To take"
    ):
        other.load_state_dict(memvir.state_dict())
    assert other.step == 0 and other.memory_nbytes == 0
    assert torch.equal(other.W, weight)


def spoilt(state, spoil):
    """A state whose memory, names without "memory.", somebody has spoilt."""
    memory = {k[7:]: v for k, v in state.items() if k.startswith("memory.")}
    spoil(memory)
    memory = {f"memory.{name}": value for name, value in memory.items()}
    return {"loss.W": state["loss.W"], **memory}


def _text(**changes):
    """The settings of a MemVir, one of them changed."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    text = memory_state.unpack(memvir.state_dict()["memory.settings"])
    return memory_state.pack(text | changes)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: s.update(version=torch.tensor(99)), "version 3, got 99"),
        (lambda s: s.pop("labels"), "memory.labels is missing"),
        (lambda s: s.pop("batch_sizes"), "memory.batch_sizes is missing"),
        (
            lambda s: s.update(labels=torch.zeros(1, 2, 3).long()),
            "do not fit together",
        ),
        (
            lambda s: s.update(labels=torch.zeros(2, 2, 6)),
            "labels must be a tensor of int64, got torch.float32",
        ),
        (
            lambda s: s.update(terms=s["terms"].to_sparse()),
            "terms must be a tensor of floats, got one .* of layout torch.sparse_coo",
        ),
        (
            lambda s: s.update(batch_sizes=torch.ones(2, 2).int().to_sparse()),
            "batch_sizes must be a tensor of integers, got one .* torch.sparse_coo",
        ),
        (
            lambda s: s.update(
                class_weights=torch.zeros(1, 1, 1, 1).expand(2, 2, 5, 6)
            ),
            "class_weights must be a tensor of floats, got one without data",
        ),
        (lambda s: s.update(settings=_text(form="?")), "form is not known: '?'"),
        (lambda s: s.update(settings=_text(settings=3)), "settings must be a dict"),
    ],
)
def test_a_damaged_memory_is_refused(spoil, message):
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    state = spoilt(memvir.state_dict(), spoil)
    other = norm_softmax(num_steps=2, step_gap=1)
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
    assert other.step == 0 and other.memory_nbytes == 0


def test_what_is_loaded_needs_no_gradient():
    memvir = norm_softmax(num_steps=2, step_gap=1, algorithm="concatenation")
    train(memvir, ragged(0, 5))
    state = copy.deepcopy(memvir.state_dict())
    state["memory.embeddings"].requires_grad_()
    memvir.load_state_dict(state)
    for x, y in ragged(1, 4):
        memvir(x, y).backward()


def test_a_loader_that_writes_into_the_state_does_not_spoil_the_memory():
    """As torch.distributed.checkpoint does."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    memvir.state_dict()["memory.batch_sizes"].fill_(3)
    assert len(train(memvir, ragged(0, 5))) == 5


def test_a_loaded_state_is_a_copy():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    state = memvir.state_dict()
    before = copy.deepcopy(state)
    other = norm_softmax(num_steps=2, step_gap=1)
    other.load_state_dict(state)
    train(other, ragged(1, 3))
    for name, tensor in before.items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize("num_classes, size", [(4, 6), (5, 7)])
def test_a_checkpoint_of_another_shape_is_refused(num_classes, size):
    memvir = norm_softmax(num_steps=2, step_gap=1)
    other = MemVir(losses.NormSoftmax(num_classes, size), 2, 1)
    with pytest.raises(ValueError, match="expected (num_classes=4|embedding_size=7)"):
        other.load_state_dict(memvir.state_dict())
    train(memvir, ragged(0, 2))
    with pytest.raises(ValueError, match="expected (num_classes|embedding_size)="):
        other.load_state_dict(memvir.state_dict())


@pytest.mark.parametrize(
    "name, change",
    [
        ("batch_sizes", lambda t: t + 100),
        ("batch_sizes", lambda t: t - 100),
        ("class_weights", lambda t: t[..., :-1]),
        ("class_weights", lambda t: t[..., 0]),
        ("embeddings", lambda t: t[:, :, :-1]),
        ("labels", lambda t: t[:1]),
        ("terms", lambda t: t[..., :-1]),
        ("lse", lambda t: t[..., :-1]),
        ("note_settings", lambda t: t[:-1]),
    ],
)
def test_a_memory_whose_parts_do_not_fit_is_refused(name, change):
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    state = memvir.state_dict()
    state[f"memory.{name}"] = change(state[f"memory.{name}"])
    other = norm_softmax(num_steps=2, step_gap=1)
    with pytest.raises(ValueError, match="do not fit together"):
        other.load_state_dict(state)
    assert other.step == 0 and other.memory_nbytes == 0


@pytest.mark.parametrize(
    "name",
    [
        "settings",
        "calls",
        "warmup_steps",
        "num_virtual_steps",
        "num_non_finite",
        "rank",
        "world_size",
        "note_settings",
        "seal",
        "terms",
    ],
)
def test_an_incomplete_state_is_refused(name):
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    state = memvir.state_dict()
    del state[f"memory.{name}"]
    other = norm_softmax(num_steps=2, step_gap=1)
    with pytest.raises(ValueError, match=f"memory.{name} is missing"):
        other.load_state_dict(state)
    assert other.step == 0 and other.memory_nbytes == 0


def test_filled_cells_without_a_memory_are_refused():
    memvir = norm_softmax(num_steps=2, step_gap=1)
    train(memvir, ragged(0, 5))
    state = memvir.state_dict()
    for name in ("class_weights", "embeddings", "labels", "terms", "lse"):
        del state[f"memory.{name}"]
    with pytest.raises(ValueError, match="memory.class_weights, .* is missing"):
        norm_softmax(num_steps=2, step_gap=1).load_state_dict(state)


@pytest.mark.parametrize("state", [None, [], {"version": 1.5}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match="must be of version"):
        norm_softmax(num_steps=2, step_gap=1).load_state_dict({"_extra_state": state})
