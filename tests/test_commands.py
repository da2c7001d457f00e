"""The command line, as a user types it; and the search of hyper-parameters."""

import json

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
import yaml  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import ConfigError, load  # noqa: E402

from . import tiny  # noqa: E402

LR = "optimizers.metric_loss_optimizer.Adam.lr"
VALIDATION = {
    "split_manager~OVERRIDE~": {"ClassDisjointSplitManager": {"num_training_sets": 1}}
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch, tmp_path, one_thread):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    values = {**tiny.VALUES, "num_epochs_train": 2}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def call(*arguments, fails=False):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return " ".join(result.output.split())


def test_run_report_eval(config, tmp_path):
    plain = [
        "experiment_name=tiny/norm_softmax",
        "loss_funcs.metric_loss~OVERRIDE~={NormSoftmax: {scale: 10}}",
        "seeds=[0,1]",
    ]
    call("run", config, *plain, "--device", "cpu")
    memvir = ["baseline=tiny/norm_softmax", "seeds=[0,1]"]
    output = call("run", config, *memvir, "--device", "cpu")
    assert "warm-up 6 steps" in output and "epoch 2/2" in output
    assert "finished before" in call("run", config, *memvir, "--device", "cpu")
    runs = tmp_path / "output" / "runs"
    output = call("report", runs)
    assert "Data set: tiny" in output
    assert "minus norm_softmax (n = 2)" in output
    for name in ("report.md", "report.csv", "summary.csv", "report.tex", "curves.png"):
        assert (runs / "report" / name).stat().st_size > 100
    output = call("eval", runs / "tiny" / "norm_softmax_memvir", "--device", "cpu")
    found = json.loads(
        (runs / "tiny/norm_softmax_memvir/seed1/history.json").read_text()
    )
    recall = found["epochs"][-1]["splits"]["test"]["precision_at_1"]
    assert f"{100 * recall:.2f}" in output and "seed1" in output
    # Another data set, by overrides.
    noisy = "dataset.Tiny.noise=0"
    output = call("eval", runs / "tiny" / "norm_softmax", noisy, "--device", "cpu")
    assert "100.00" in output


def test_mistakes_are_messages(config):
    assert "Did you mean 'patience'" in call("run", config, "patince=3", fails=True)
    assert "name a preset" in call("run", fails=True)
    assert "--device" in call("run", config, "--device", "gpu", fails=True)
    assert "no preset" in call("run", "glyphs/nothing*", fails=True)
    assert "holds no run" in call("eval", ".", fails=True)
    assert "unknown kind 'los'" in call("list", "los", fails=True)
    assert "one experiment_name" in call(
        "run", "glyphs/softmax", "glyphs/arcface", "experiment_name=x", fails=True
    )
    assert "cars196" in call("data", "prepare", "cars", fails=True)


def test_list_and_check(config):
    output = call("list")
    assert "sop/proxy_anchor" in output and "official" in output
    assert "MemVir" in call("list", "loss") and "resnet50" in call("list", "trunk")
    assert "1 of 1 configs are ready" in call("check", config)
    output = call("check", config, "tester~APPLY~2={batch_sise: 3}", fails=True)
    assert "Did you mean 'batch_size'" in output and "0 of 1" in output


def test_verify_says_what_is_wrong(tmp_path):
    output = call("data", "verify", "cars196", "--root", tmp_path / "no", fails=True)
    assert "no is not a folder" in output


def test_names_by_pattern():
    from benchmarks.commands.options import split_names

    names, overrides = split_names(("glyphs/*_memvir", "x.yaml", "a.b=1"))
    assert len(names) == 7 and names[-1] == "x.yaml" and overrides == ["a.b=1"]


# ----------------------------------------------------------------------------- tune


def tune(tmp_path, trials, changes=None, bounds=(1e-3, 1e-1)):
    from benchmarks.config.overlay import overlay
    from benchmarks.protocol.tune import tune as search

    ranges = {
        "optimizers": {
            "metric_loss_optimizer": {"Adam": {"lr~LOG_BAYESIAN~": list(bounds)}}
        },
        "num_epochs_train": 2,
    }
    values = overlay(overlay(tiny.VALUES, VALIDATION), ranges)
    return search(
        overlay(values, changes or {}), tmp_path, trials, 0, torch.device("cpu")
    )


def trials_of(folder):
    optuna = pytest.importorskip("optuna", reason="tune uses Optuna")
    study = optuna.load_study(
        study_name=tiny.VALUES["experiment_name"],
        storage=f"sqlite:///{folder}/study.db",
    )
    return study.get_trials()


def test_tune(tmp_path):
    pytest.importorskip("optuna", reason="tune uses Optuna")
    folder = tune(tmp_path, 3)
    found = trials_of(folder)
    assert len(found) == 3 and len({t.params[LR] for t in found}) == 3
    for trial in found:  # the value is the best on validation classes
        values = []
        for path in folder.glob("trial-*"):
            config = load(str(path / "config.yaml"))
            lr = config.optimizers["metric_loss_optimizer"]["Adam"]["lr"]
            if lr == trial.params[LR]:
                history = json.loads((path / "seed0/fold0/history.json").read_text())
                values = [
                    e["splits"]["val"]["mean_average_precision_at_r"]
                    for e in history["epochs"]
                ]
        assert trial.value == max(values)
    best = yaml.safe_load((folder / "best.yaml").read_text())
    chosen = max(found, key=lambda t: t.value).params[LR]
    assert best["optimizers"]["metric_loss_optimizer"]["Adam"]["lr"] == chosen
    # It goes on, does not repeat itself, and does not search another config.
    tune(tmp_path, 4, bounds=(1e-3, 1e-2))
    again = trials_of(folder)
    assert len(again) == 4 and len({t.params[LR] for t in again}) == 4
    with pytest.raises(
        ConfigError, match="(?s)another config.*num_epochs_train: 2 -> 3"
    ):
        tune(tmp_path, 5, {"num_epochs_train": 3})


@pytest.mark.parametrize("by_user", [False, True])
def test_killed_tune_takes_up_its_trial(tmp_path, monkeypatch, by_user):
    pytest.importorskip("optuna", reason="tune uses Optuna")
    from benchmarks.protocol import tune as tuning

    class Killed(BaseException):
        pass

    def killed(*arguments):
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


def test_tune_refuses(tmp_path):
    pytest.importorskip("optuna", reason="tune uses Optuna")
    from benchmarks.protocol.tune import tune as search

    with pytest.raises(ConfigError, match="nothing to tune"):
        search(tiny.VALUES, tmp_path, 1)
    with pytest.raises(ConfigError, match="held-out classes"):
        own = {"split_manager~OVERRIDE~": {"PredefinedSplitManager": {}}}
        tune(tmp_path, 1, own)
    assert not list(tmp_path.rglob("study.db"))
