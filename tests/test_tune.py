"""The search of hyper-parameters."""

import json

import matplotlib
import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")
pytest.importorskip("optuna", reason="tune uses Optuna")

import torch  # noqa: E402
import yaml  # noqa: E402

from benchmarks.config import ConfigError, load  # noqa: E402
from benchmarks.config.arguments import unknown_arguments  # noqa: E402
from benchmarks.config.overlay import overlay  # noqa: E402
from benchmarks.config.schema import validated  # noqa: E402
from benchmarks.errors import DatabaseError  # noqa: E402
from benchmarks.protocol import tune as tuning  # noqa: E402
from benchmarks.protocol.experiment import run  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.protocol.searched import open_study  # noqa: E402
from benchmarks.protocol.tune import tune as search  # noqa: E402

from . import tiny  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LR = "optimizers.metric_loss_optimizer.Adam.lr"
VALIDATION = {
    "split_manager~OVERRIDE~": {"ClassDisjointSplitManager": {"num_training_sets": 1}}
}


def tune(tmp_path, trials, changes=None, bounds=(1e-3, 1e-1), epochs=1):
    ranges = {
        "optimizers": {
            "metric_loss_optimizer": {"Adam": {"lr~LOG_BAYESIAN~": list(bounds)}}
        },
        "num_epochs_train": epochs,
    }
    values = overlay(overlay(tiny.VALUES, VALIDATION), ranges)
    return search(overlay(values, changes or {}), tmp_path, trials, 0, CPU)


def trials_of(folder):
    return open_study(folder, tiny.VALUES["experiment_name"]).get_trials()


def test_tune(tmp_path):
    folder = tune(tmp_path, 3, epochs=2)
    found = trials_of(folder)
    assert len(found) == 3 and len({t.params[LR] for t in found}) == 3
    for trial in found:  # the value is the best on validation classes
        values = []
        for path in folder.glob("trial-*"):
            config = load(str(path / "config.yaml"))
            lr = config.optimizers["metric_loss_optimizer"]["Adam"]["lr"]
            if lr == trial.params[LR]:
                history = json.loads((path / "seed0/fold0/history.json").read_text())
                assert all(set(e["splits"]) == {"val"} for e in history["epochs"])
                values = [
                    e["splits"]["val"]["mean_average_precision_at_r"]
                    for e in history["epochs"]
                ]
        assert trial.value == max(values)
    best = yaml.safe_load((folder / "best.yaml").read_text())
    chosen = max(found, key=lambda t: t.value).params[LR]
    assert best["optimizers"]["metric_loss_optimizer"]["Adam"]["lr"] == chosen
    # A run with these values measures the same, and the test set, too.
    values = overlay(tiny.VALUES, {**VALIDATION, "num_epochs_train": 2})
    whole = run(validated(overlay(values, best)), tmp_path / "whole", CPU)
    history = json.loads((whole / "seed0/fold0/history.json").read_text())
    assert max(found, key=lambda t: t.value).value == max(
        e["splits"]["val"]["mean_average_precision_at_r"] for e in history["epochs"]
    )
    assert "test" in history["epochs"][-1]["splits"]
    # It goes on, does not repeat itself, and does not search another config.
    tune(tmp_path, 4, bounds=(1e-3, 1e-2), epochs=2)
    again = trials_of(folder)
    assert len(again) == 4 and len({t.params[LR] for t in again}) == 4
    with pytest.raises(
        ConfigError, match="(?s)another config.*num_epochs_train: 2 -> 3"
    ):
        tune(tmp_path, 5, {"num_epochs_train": 3})


@pytest.mark.parametrize("by_user", [False, True])
def test_killed_tune_takes_up_its_trial(tmp_path, monkeypatch, by_user):
    class Killed(BaseException):
        pass

    def killed(*arguments, **named):
        raise KeyboardInterrupt if by_user else Killed

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "run" if by_user else "score", killed)
        with pytest.raises((Killed, KeyboardInterrupt)):
            tune(tmp_path, 2)
    folder = tmp_path / "tiny/norm_softmax_memvir/tune"
    (lr,) = [t.params[LR] for t in trials_of(folder)]
    assert trials_of(folder)[0].state.name == ("FAIL" if by_user else "RUNNING")
    kept = list(folder.glob("trial-*"))
    tune(tmp_path, 2)
    finished = [t for t in trials_of(folder) if t.state.name == "COMPLETE"]
    assert finished[0].params[LR] == lr and len(finished) == 2
    folders = list(folder.glob("trial-*"))
    assert len(folders) == 2 and set(kept) <= set(folders)


def test_a_full_disk_is_no_fault_of_a_trial(tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise DatabaseError("logs.db: database or disk is full")

    with monkeypatch.context() as patch, pytest.raises(DatabaseError):
        patch.setattr(tuning, "run", full)
        tune(tmp_path, 1)
    stopped, again = trials_of(tune(tmp_path, 1))
    assert stopped.params == again.params and again.state.name == "COMPLETE"
    searched = tmp_path / "tiny/norm_softmax_memvir/tune/searched.yaml"
    text = searched.read_text()
    assert text.count("searched, logarithmic") == 1
    searched.write_text(text.replace(", logarithmic", ""))  # as it was before
    tune(tmp_path, 1)
    searched.write_text(text)
    linear = {"lr~BAYESIAN~": [1e-3, 1e-1]}
    with pytest.raises(ConfigError, match="searched, logarithmic -> searched"):
        tune(tmp_path, 2, {"optimizers": {"metric_loss_optimizer": {"Adam": linear}}})


def test_a_trial_is_as_good_as_its_seeds_together(tmp_path):
    config = tiny.config({"seeds": [0, 1], **VALIDATION})
    for seed, value in enumerate((0.2, 0.6)):
        folder = tmp_path / f"seed{seed}" / "fold0"
        folder.mkdir(parents=True)
        epoch = {"epoch": 1, "step": 1, "loss": 1, "splits": {"val": {"m": value}}}
        History(seed, 0, 1, "m", "val", "test", [epoch], True).save(folder)
    assert tuning.score(tmp_path, config) == pytest.approx(0.4)


def test_tune_refuses(tmp_path):
    with pytest.raises(ConfigError, match="nothing to tune"):
        search(tiny.VALUES, tmp_path, 1)
    with pytest.raises(ConfigError, match="held-out classes"):
        own = {"split_manager~OVERRIDE~": {"PredefinedSplitManager": {}}}
        tune(tmp_path, 1, own)
    assert not list(tmp_path.rglob("study.db"))


def by_samples_of_a_class(tmp_path, trials, low, high):
    """Batches of 8: of three samples a class they cannot be."""
    values = overlay(
        overlay(tiny.VALUES, VALIDATION),
        {
            "sampler": {"MPerClassSampler": {"m~INT_BAYESIAN~": [low, high]}},
            "trainer~APPLY~2": {"batch_size": 8},
            "num_epochs_train": 1,
        },
    )
    return search(values, tmp_path, trials, 0, CPU)


def test_a_trial_that_cannot_be_built_is_a_failed_one(tmp_path, capsys):
    folder = by_samples_of_a_class(tmp_path, 4, 2, 3)
    states = {
        t.params["sampler.MPerClassSampler.m"]: t.state.name for t in trials_of(folder)
    }
    assert len(trials_of(folder)) == 4 and states == {2: "COMPLETE", 3: "FAIL"}
    assert "m_per_class must divide" in capsys.readouterr().out
    assert yaml.safe_load((folder / "best.yaml").read_text())["sampler"]
    by_samples_of_a_class(tmp_path, 4, 2, 3)  # nothing is left to do
    assert len(trials_of(folder)) == 4


def test_a_search_of_failures_only_says_so(tmp_path, monkeypatch):
    def no_value(folder, config):
        raise ValueError("not a number in any epoch")

    monkeypatch.setattr(tuning, "score", no_value)
    with pytest.raises(ConfigError, match="all 2 trials failed.*not a number"):
        tune(tmp_path, 2)
    assert not list(tmp_path.rglob("best.yaml"))


def test_a_stopped_search_goes_on_as_an_undisturbed_one(tmp_path, monkeypatch):
    whole = [t.params for t in trials_of(tune(tmp_path / "whole", 3))]
    calls = []

    def killed(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*arguments)

    score = tuning.score
    monkeypatch.setattr(tuning, "score", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "stopped", 3)
    found = trials_of(tune(tmp_path / "stopped", 3))
    assert [t.params for t in found if t.state.name == "COMPLETE"] == whole


@pytest.mark.parametrize("name", ["lr?x", 'it\'s a%3Fb#c "q" {x} [b]'])
def test_a_search_is_in_its_own_folder_by_any_name(tmp_path, name, capsys):
    colors = matplotlib.rcParams["axes.prop_cycle"]
    folder = tune(tmp_path / name, 2)
    assert (folder / "study.db").is_file() and len(trials_of(folder)) == 2
    assert {p.name for p in tmp_path.iterdir()} == {name}
    assert matplotlib.rcParams["axes.prop_cycle"] == colors  # Optuna sets its own
    for picture in ("history.png", "importance.png", "slices.png"):
        assert (folder / picture).read_bytes()[:4] == b"\x89PNG"
    assert "| trial | MAP@R, validation |" in capsys.readouterr().out


def test_a_range_among_the_overrides_is_no_unknown_argument():
    """As the command's help has it."""
    ranges = {
        "sampler": {"MPerClassSampler": {"m~INT_BAYESIAN~": [2, 4]}},
        "optimizers": {
            "trunk_optimizer": {"Adam": {"lr~LOG_BAYESIAN~": [1e-3, 1e-1], "rl": 1}}
        },
    }
    assert [path for path, _ in unknown_arguments(ranges)] == [
        "optimizers.trunk_optimizer.Adam.rl"
    ]
