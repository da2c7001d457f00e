"""A trial as it is built of a config, and configs that no trial can be built of."""

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402

from benchmarks.config import ConfigError  # noqa: E402
from benchmarks.protocol.trial import build_trial  # noqa: E402
from pml_memvir import MemVir  # noqa: E402

from . import tiny  # noqa: E402
from .experiment_runs import CPU, FOLDS, history, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_last_batch_and_warm_up():
    for drop_last, steps in ((False, 6), (True, 5)):
        changes = {"trainer~APPLY~2": {"drop_last": drop_last}}
        trial = build_trial(tiny.config(changes), 0, None, None, CPU)
        loss = trial.loss_funcs["metric_loss"]
        assert isinstance(loss, MemVir)
        assert trial.steps_per_epoch == steps == loss.warmup_steps
        assert loss.W.shape == (6, 8)
        trial.trainer.initialize_dataloader()
        assert len(trial.trainer.dataloader) == steps
        sizes = [len(labels) for _, labels in trial.trainer.dataloader]
        assert sizes == [10] * 5 + [6] * (not drop_last)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"optimizers": {"metric_loss_optimizer~DELETE~": {}}},
            "metric_loss .MemVir. has parameters and no optimizer: add optimizers",
        ),
        (
            {"optimizers": {"metric_los_optimizer": {"SGD": {"lr": 1}}}},
            "unknown key 'metric_los_optimizer'. Did you mean 'metric_loss_optimizer'",
        ),
        (
            {"models": {"embedder~OVERRIDE~": {"Identity": {}}}},
            "embedder has no parameters; delete it",
        ),
        ({"models": {"trnk": {"SmallConvNet": {}}}}, "Did you mean 'trunk'"),
        ({"trainer~APPLY~2": {"batch_size": None}}, "needs a batch_size"),
        (
            {"trainer~APPLY~2": {"batch_size": 99, "drop_last": True}},
            "an epoch has no step",
        ),
        ({"trainer~APPLY~2": {"mixed_precision": "half"}}, "mixed_precision"),
        ({"trainer~APPLY~2": {"models": {}}}, "models is filled in"),
        (
            {"hook_container~APPLY~2": {"primary_metric": "r_precision"}},
            "primary_metric 'r_precision' is not among",
        ),
        (
            {"hook_container~APPLY~2": {"validation_split_name": "dev"}},
            "the validation split is called val",
        ),
        (
            {"tester~APPLY~4": {"return_per_class": True}},
            "not return_per_class",
        ),
        (
            {"optimizers~APPLY~3": {"scheduler_by_epoch": {"ReduceLROnPlateau": {}}}},
            "goes to scheduler_by_plateau",
        ),
        (
            {"optimizers~APPLY~3": {"scheduler_by_plateau": {"ReduceLROnPlateau": {}}}},
            "needs held-out classes",
        ),
        (
            {"optimizers~APPLY~3": {"scheduler": {"StepLR": {"step_size": 1}}}},
            "given twice",
        ),
        ({"optimizers~APPLY~3": {"clip_grad_norm": -1}}, "must be > 0"),
        (
            {
                "split_manager~OVERRIDE~": {
                    "ClassDisjointSplitManager": {"test_size": 0.01}
                }
            },
            "no image in test",
        ),
        ({"hook_container~APPLY~2": {"log_frequency": 3}}, "Did you mean 'log_freq'"),
        ({"transforms": {"test": {}}}, "unknown key 'test'"),
        (
            {"optimizers~APPLY~3": {"scheduler_by_epoch": {"StepLR": {"step": 1}}}},
            "StepLR: unknown argument 'step'. Did you mean 'step_size'",
        ),
        (
            {"sampler": {"MPerClassSampler": {"m": 3}}},
            "m \\* \\(number of unique|batch",
        ),
    ],
)
def test_trials_that_cannot_be_meant(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_trial(tiny.config(changes), 0, None, None, CPU)


def test_sampler_scheduler_and_clipping():
    changes = {
        "sampler": {"MPerClassSampler": {"m": 2}},
        "optimizers": {"trunk_optimizer": {"Adam": {"clip_grad_norm": 1e-3}}},
    }
    trial = build_trial(tiny.config(changes), 0, None, None, CPU)
    assert trial.steps_per_epoch == 56 // 10
    trainer = trial.trainer
    trainer.initialize_dataloader()
    _, labels = next(trainer.dataloader_iter)
    assert (labels.bincount(minlength=8) % 2 == 0).all()
    assert set(trainer.lr_schedulers) == {"embedder_scheduler_by_epoch"}
    trainer.epoch, trainer.iteration = 1, 0
    trainer.set_to_train()
    trainer.dataloader_iter = iter(trainer.dataloader)
    trainer.forward_and_backward()
    norm = torch.stack(
        [p.grad.norm() for p in trial.models["trunk"].parameters()]
    ).norm()
    assert 0 < norm <= 1.001e-3


def test_plateau_watches_validation_classes(tmp_path):
    plateau = {"ReduceLROnPlateau": {"patience": 0, "factor": 0.5}}
    changes = {
        **FOLDS,
        "optimizers~APPLY~3": {"lr": 0.0, "scheduler_by_plateau": plateau},
    }
    trial = build_trial(tiny.config(changes), 0, 0, None, CPU)
    assert trial.trainer.lr_schedulers["trunk_scheduler_by_plateau"].mode == "max"
    assert history(run(tmp_path, changes), "seed0", "fold0")["finished"]


def test_a_schedule_of_iterations(tmp_path):
    halves = {"StepLR": {"step_size": 1, "gamma": 0.5}}
    adam = {"Adam": {"lr": 0.01, "scheduler_by_iteration": halves}}
    changes = {"optimizers": {"trunk_optimizer~OVERRIDE~": adam}, "num_epochs_train": 2}
    models = run(tmp_path, changes) / "seed0" / "models"
    state = torch.load(models / "trunk_optimizer_2.pth", weights_only=True)
    assert state["param_groups"][0]["lr"] == 0.01 * 0.5**12


def test_frozen_trunk_needs_no_optimizer():
    changes = {
        "trainer~APPLY~2": {"freeze_these": ["trunk"]},
        "optimizers": {"trunk_optimizer~DELETE~": {}},
    }
    trial = build_trial(tiny.config(changes), 0, None, None, CPU)
    assert set(trial.trainer.optimizers) == {
        "embedder_optimizer",
        "metric_loss_optimizer",
    }


def test_null_freezes_nothing():
    changes = {"trainer~APPLY~2": {"freeze_these": None}}
    trial = build_trial(tiny.config(changes), 0, None, None, CPU)
    assert "trunk_optimizer" in trial.trainer.optimizers


def test_gradients_are_clipped_at_their_own_scale():
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("before PyTorch 2.3 the gradient scaler is for CUDA only")
    changes = {
        "trainer~APPLY~2": {"mixed_precision": "float16"},
        "optimizers~APPLY~3": {"clip_grad_norm": 1e-3},
    }
    trial = build_trial(tiny.config(changes), 0, None, None, CPU)
    trial.trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trial.trainer.initialize_dataloader()
    trial.trainer.epoch, trial.trainer.iteration = 1, 0
    trial.trainer.set_to_train()
    trial.trainer.forward_and_backward()
    norm = torch.stack(
        [p.grad.norm() for p in trial.models["trunk"].parameters()]
    ).norm()
    assert norm.item() == pytest.approx(1e-3, rel=0.01)


def test_deterministic_mode():
    try:
        build_trial(tiny.config({"deterministic": True}), 0, None, None, CPU)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
