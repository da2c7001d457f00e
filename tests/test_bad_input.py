"""Bad input gets a clear error and no change to the memory."""

import copy
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from pml_memvir import MemVir, losses

from .catalog import EMBEDDING_SIZE, norm_softmax, ragged, train


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"num_steps": 0}, ValueError, "num_steps must be >= 1, got 0"),
        ({"num_steps": 1.5}, TypeError, "num_steps must be an integer, got 1.5"),
        ({"step_gap": -1}, ValueError, "step_gap must be >= 0, got -1"),
        ({"warmup_steps": -3}, ValueError, "warmup_steps must be >= 0, got -3"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        norm_softmax(**{"num_steps": 1, "step_gap": 0, **settings})


def _labels(*values):
    return torch.tensor(values)


@pytest.mark.filterwarnings("ignore:MemVir is called in evaluation")
@pytest.mark.parametrize("mode", ["warm-up", "memory", "eval"])
@pytest.mark.parametrize(
    "x, y, error, message",
    [
        (
            torch.randn(2, 7),
            _labels(0, 1),
            ValueError,
            r"\(batch_size, 6\), got \(2, 7",
        ),
        (torch.randn(6), _labels(0), ValueError, r"\(batch_size, 6\), got \(6,\)"),
        (torch.randn(2, 6), _labels(0, 5), ValueError, "0 to 4, .* got 0 to 5"),
        (torch.randn(2, 6), _labels(-1, 1), ValueError, "0 to 4, .* got -1 to 1"),
        (torch.randn(2, 6), _labels(0), ValueError, r"shape \(2,\), .* got \(1,\)"),
        (torch.randn(1, 6), _labels([0]), ValueError, r"shape \(1,\), .* got \(1, 1\)"),
        (torch.randn(2, 6), torch.rand(2), TypeError, "integers, got torch.float32"),
        (torch.randn(0, 6), _labels(), (TypeError, ValueError), "got an empty batch"),
        ([[0.0] * 6], _labels(0), TypeError, "embeddings must be a tensor, got list"),
        (torch.randn(1, 6), [0], TypeError, "labels must be a tensor, got list"),
        (torch.ones(2, 6).long(), _labels(0, 1), TypeError, "point, got torch.int64"),
    ],
)
def test_bad_batches_leave_no_trace(x, y, error, message, mode):
    memvir = norm_softmax(num_steps=2, step_gap=0, warmup_steps=2)
    train(memvir, ragged(0, 1 if mode == "warm-up" else 5))
    memvir.train(mode != "eval")
    twin = copy.deepcopy(memvir)
    with pytest.raises(error, match=message):
        memvir(x, y)
    assert memvir.step == twin.step and memvir.memory_nbytes == twin.memory_nbytes
    for a, b in zip(train(memvir, ragged(1, 4)), train(twin, ragged(1, 4))):
        assert torch.equal(a, b)


@pytest.mark.parametrize("num_classes", [256, 300])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_more_classes_than_the_labels_type_can_count(dtype, num_classes):
    memvir = MemVir(losses.NormSoftmax(num_classes, 6), 1, 0)
    y = torch.tensor([0, 100])
    expected = copy.deepcopy(memvir)(torch.ones(2, 6), y)
    assert memvir(torch.ones(2, 6), y.to(dtype)) == expected
    if dtype != torch.uint8:
        with pytest.raises(ValueError, match=f"0 to {num_classes - 1}, .* got -1 to 0"):
            memvir(torch.ones(2, 6), torch.tensor([-1, 0], dtype=dtype))


@pytest.mark.parametrize("mode", ["warm-up", "memory", "eval"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
@pytest.mark.parametrize("label", [5, 2**16 - 1])
def test_labels_of_types_that_pytorch_hardly_knows(label, dtype, mode):
    if not hasattr(torch, dtype):
        pytest.skip(f"this PyTorch has no {dtype}")
    memvir = norm_softmax(num_steps=2, step_gap=0, warmup_steps=mode == "warm-up")
    memvir.train(mode != "eval")
    x = torch.randn(2, 6).double()
    expected = copy.deepcopy(memvir)(x, torch.tensor([0, 4]))
    given = torch.tensor([0, label]).to(getattr(torch, dtype))
    with pytest.raises(ValueError, match=f"0 to 4, .* got 0 to {label}$"):
        memvir(x, given)
    assert memvir(x, torch.tensor([0, 4]).to(given.dtype)) == expected


@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_is_refused(use_reentrant, algorithm):
    """It calls the loss a second time, in a backward."""
    memvir = norm_softmax(num_steps=2, step_gap=0, algorithm=algorithm)
    x, y = ragged(0, 1)[0]
    with pytest.raises(RuntimeError, match="leave it out of activation checkpointing"):
        checkpoint(
            memvir, x.requires_grad_(), y, use_reentrant=use_reentrant
        ).backward()
    # Else the step was done when the user's backward called it again.
    assert memvir.step == (not use_reentrant)
    assert len(train(memvir, ragged(0, 3))) == 3


def test_a_warning_that_is_an_error_leaves_a_whole_step():
    memvir, twin = (norm_softmax(num_steps=2, step_gap=1) for _ in range(2))
    batches = ragged(0, 9)
    batches[4][0][0, 0] = torch.nan
    with pytest.warns(UserWarning, match="Step 4 has NaN"):
        expected = train(twin, batches)
    found = train(memvir, batches[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Step 4 has NaN"):
            train(memvir, batches[4:5])
    found += train(memvir, batches[5:])
    assert found == [*expected[:4], *expected[5:]]


def test_a_loss_that_raises_leaves_no_trace():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    train(memvir, ragged(0, 3))
    memvir.scale = "nonsense"
    with pytest.raises((TypeError, ValueError)):
        train(memvir, ragged(1, 1))
    memvir.scale = 23.0
    twin = norm_softmax(num_steps=2, step_gap=0)
    train(twin, ragged(0, 3))
    for a, b in zip(train(memvir, ragged(1, 4)), train(twin, ragged(1, 4))):
        assert torch.equal(a, b)


def test_other_class_weights_empty_the_memory():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    train(memvir, ragged(0, 3))
    memvir.W = torch.nn.Parameter(torch.randn(EMBEDDING_SIZE, 9).double())
    memvir.num_classes = 9
    with pytest.warns(UserWarning, match=r"emptied: .* have shape \(6, 9\)"):
        memvir(*ragged(1, 1)[0])
    train(memvir, ragged(2, 2))
    assert memvir.num_virtual_classes == 18


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad_step", [4, 5])
def test_a_bad_batch_that_leaves_no_snapshot_takes_none_away(bad_step, algorithm):
    """Of steps 4 and 5 the first alone leaves one."""
    settings = dict(num_steps=2, step_gap=1, snapshot_every=2, algorithm=algorithm)
    memvir, batches = norm_softmax(**settings), ragged(0, 8)
    batches[bad_step][0][0, 0] = torch.nan
    met = []
    for some in batches:
        train(memvir, [some])
        met.append(memvir.num_virtual_steps)
    assert met[6:] == ([1, 1] if bad_step == 4 else [2, 2])
    assert memvir.num_non_finite == 1
