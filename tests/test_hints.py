"""What is said once: evaluation mode in training, class weights that do not change."""

import copy
import pickle
import warnings

import pytest
import torch
from pytorch_metric_learning import trainers

from pml_memvir import MemVir
from pml_memvir.training.hints import UNCHANGED_STEPS

from .catalog import BY_NAME, batch, fused_adam, norm_softmax


def one(seed=0):
    return batch(torch.Generator().manual_seed(seed), 4)


def steps(memvir, number, step=lambda: None):
    """Training steps; returns the warnings' texts."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for seed in range(number):
            x, y = one(seed)
            memvir(x.requires_grad_(), y).backward()
            step()
    assert all(warning.filename == __file__ for warning in seen)
    return [str(warning.message) for warning in seen]


def test_evaluation_mode_in_training_is_pointed_out_once():
    memvir = norm_softmax(num_steps=1, step_gap=0).eval()
    (text,) = steps(memvir, 3)
    assert "evaluation mode" in text and ".requires_grad_(False)" in text
    assert not steps(copy.deepcopy(memvir), 2)  # copies know what has been said
    assert not steps(pickle.loads(pickle.dumps(memvir)), 2)
    assert not steps(memvir.train(), 2)
    assert not steps(norm_softmax(num_steps=1, step_gap=0), 2)


def test_evaluation_is_no_training(recwarn):
    memvir = norm_softmax(num_steps=1, step_gap=0).eval()
    x, y = one()
    with torch.no_grad():
        memvir(x.clone().requires_grad_(), y)
    with torch.inference_mode():
        memvir(x, y)
    memvir(x, y).backward()  # embeddings that are given
    assert not recwarn.list


def test_the_hint_may_be_an_error():
    memvir = norm_softmax(num_steps=1, step_gap=0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="evaluation mode"):
            memvir(one()[0].requires_grad_(), one()[1])
        memvir(one()[0].requires_grad_(), one()[1])


@pytest.mark.parametrize(
    "freeze, miner, expected", [(True, False, 1), (False, False, 0), (False, True, 0)]
)
def test_in_a_trainer(freeze, miner, expected):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(32, 6), torch.arange(32) % 5)
    trunk, memvir = torch.nn.Linear(6, 6), norm_softmax(num_steps=1, step_gap=0)
    memvir.float()
    optimizers = {"trunk_optimizer": torch.optim.SGD(trunk.parameters(), lr=0.1)}
    if not freeze:
        optimizers["metric_loss_optimizer"] = torch.optim.SGD(memvir.parameters(), 0.1)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainers.MetricLossOnly(
            models={"trunk": trunk},
            optimizers=optimizers,
            batch_size=8,
            loss_funcs={"metric_loss": memvir},
            dataset=data,
            dataloader_num_workers=0,
            freeze_these=["metric_loss"] if freeze else (),
            mining_funcs=(
                {"subset_batch_miner": lambda x, y: torch.arange(len(y))}
                if miner
                else {}
            ),
        ).train(num_epochs=1)
    assert sum("evaluation mode" in str(w.message) for w in seen) == expected
    assert memvir.step == (0 if freeze else 4)


@pytest.mark.parametrize("name", ["NormSoftmax", "ProxyAnchorLoss", "P2SGradLoss"])
def test_class_weights_in_no_optimizer_are_pointed_out_once(name):
    """P2SGrad brings its class weights to unit length in each call."""
    memvir = MemVir(BY_NAME[name].loss(), 1, 1)
    assert not steps(memvir, UNCHANGED_STEPS)
    (text,) = steps(memvir, UNCHANGED_STEPS + 1)
    assert f"not changed in {UNCHANGED_STEPS} training steps" in text
    assert "in an optimizer?" in text


def by_hand(memvir):
    """As many an optimizer writes: past the counter of writes."""
    return lambda: memvir.W.data.add_(memvir.W.grad, alpha=-1e-3)


def optimizer(make):
    return lambda memvir: make([memvir.W], lr=1e-3).step


@pytest.mark.parametrize(
    "make_step",
    [
        by_hand,
        optimizer(torch.optim.SGD),
        optimizer(fused_adam),
    ],
)
def test_class_weights_that_change(make_step):
    memvir = norm_softmax(num_steps=1, step_gap=1)
    assert not steps(memvir, UNCHANGED_STEPS + 5, make_step(memvir))


def test_class_weights_that_are_to_stay():
    memvir = norm_softmax(num_steps=1, step_gap=1).requires_grad_(False)
    assert not steps(memvir, UNCHANGED_STEPS + 5)


def test_a_steady_step_asks_the_class_weights_nothing(monkeypatch):
    """Numbers are compared once at the most, and never where the counter moves."""
    asked = []
    allclose = torch.allclose
    monkeypatch.setattr(
        torch, "allclose", lambda *a, **k: asked.append(0) or allclose(*a, **k)
    )
    memvir = norm_softmax(num_steps=1, step_gap=1)
    steps(memvir, UNCHANGED_STEPS + 5, optimizer(torch.optim.SGD)(memvir))
    assert not asked
    memvir = norm_softmax(num_steps=1, step_gap=1)
    steps(memvir, 2 * UNCHANGED_STEPS, by_hand(memvir))
    assert len(asked) == 1
