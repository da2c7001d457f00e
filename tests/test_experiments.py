"""Experiments: what is trained and measured, and what is left of it."""

import json
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from PIL import Image

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402

from benchmarks.config import ConfigError, load_saved, registry, save  # noqa: E402
from benchmarks.processor import processor  # noqa: E402
from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.check import Checker  # noqa: E402
from benchmarks.protocol.environment import git_state  # noqa: E402
from benchmarks.protocol.evaluation import evaluate  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.protocol.progress import FROZEN, RANDOM, random_weights  # noqa: E402
from benchmarks.report.names import metric_label  # noqa: E402

from . import tiny  # noqa: E402
from .experiment_runs import (  # noqa: E402
    CPU,
    FOLDS,
    history,
    records,
    run,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_a_run_leaves(tmp_path):
    folder = run(
        tmp_path,
        {"tsne_classes": 3, "save_interval": 3, "check_untrained_accuracy": True},
    )
    assert folder == tmp_path / "tiny" / "norm_softmax_memvir"
    found = history(folder, "seed0")
    # Every third epoch and the last.
    assert [entry["epoch"] for entry in found["epochs"]] == [0, 3, 4]
    assert [entry["step"] for entry in found["epochs"]] == [0, 18, 24]
    assert found["epochs"][0]["loss"] is None and found["epochs"][1]["loss"] > 0
    assert found["finished"] and not found["stopped_early"]
    assert found["validation"] is None and found["test"] == "test"
    assert set(found["epochs"][-1]["splits"]["test"]) == {
        "precision_at_1",
        "mean_average_precision_at_r",
    }
    trial = folder / "seed0"
    assert (trial / "tsne.png").read_bytes()[:4] == b"\x89PNG"
    assert list((trial / "tensorboard").glob("events*"))
    assert (trial / "models" / "trunk_4.pth").exists()
    assert not (trial / "models" / "trunk_3.pth").exists()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert environment["machine"]["processor"] == processor()
    assert len(environment["sessions"]) == 1
    with closing(sqlite3.connect(trial / "records" / "logs.db")) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("loss_histories",) in names
    losses = records(trial)["loss_histories.csv"]
    assert [row[0] for row in losses[1:]] == [str(i) for i in range(0, 24, 2)]


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
def test_a_training_that_diverges_ends_as_a_result(tmp_path):
    """With accuracies of 0, and a checkpoint of what it has become."""
    huge = {"optimizers": {"trunk_optimizer": {"Adam": {"lr": 1e36}}}}
    folder = run(tmp_path, {**huge, "tsne_classes": 3})
    found = history(folder, "seed0")
    assert found["finished"] and found["epochs"][-1]["loss"] is None
    assert set(found["epochs"][-1]["splits"]["test"].values()) == {0.0}
    state = torch.load(folder / "seed0" / "models" / "trunk_4.pth", weights_only=True)
    assert not all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
def test_what_diverged_has_accuracies_of_0_wherever_they_are_told(tmp_path):
    huge = {"optimizers": {"trunk_optimizer": {"Adam": {"lr": 1e36}}}}
    folder = run(tmp_path, {**huge, **FOLDS, "seeds": [0, 1], "num_epochs_train": 1})
    for seed in ("seed0", "seed1"):
        joined = json.loads((folder / seed / "concatenated.json").read_text())
        for selection in ("last", "best_on_validation"):
            assert set(joined[selection].values()) == {0.0}
    cells = [list(column.cells) for column in evaluate(folder, "last", (), CPU).columns]
    assert len(cells[0]) == 8 and {c for of in cells[3:] for c in of} == {"0.00"}


def test_accuracies_are_those_of_the_saved_models(tmp_path):
    folder = run(tmp_path)
    found = history(folder, "seed0")
    best = max(
        found["epochs"],
        key=lambda e: e["splits"]["test"]["mean_average_precision_at_r"],
    )
    for selection, entry in (("last", found["epochs"][-1]), ("best_on_test", best)):
        table = evaluate(folder, selection, (), CPU)
        cells = [list(column.cells)[0] for column in table.columns]
        assert cells[:3] == ["seed0", str(entry["epoch"]), "test"]
        shown = dict(zip([c.header for c in table.columns][3:], cells[3:]))
        for metric, value in entry["splits"]["test"].items():
            assert shown[metric_label(metric)] == f"{100 * value:.2f}"
        lines = (folder / "evaluations.jsonl").read_text().splitlines()
        kept = json.loads(lines[-1])
        assert kept["selection"] == selection
        expected = {"trial": "seed0", "epoch": entry["epoch"], "split": "test"}
        assert kept["found"] == [{**expected, **entry["splits"]["test"]}]
    two_seeds = load_saved(folder / "config.yaml")
    two_seeds.seeds.append(5)  # one that has not begun
    save(two_seeds, folder / "config.yaml")
    assert evaluate(folder, "last", (), CPU).caption == "not evaluated yet: seed5"
    with pytest.raises(ConfigError, match="not evaluated yet: seed7"):
        evaluate(folder, "last", ["seeds=[7]"], CPU)
    with pytest.raises(ConfigError, match="best_on_validation were not kept"):
        evaluate(folder, "best_on_validation", (), CPU)


def test_changed_code_is_told_from_new_results(tmp_path):
    def git(*arguments):
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tmp_path, *names, *arguments], check=True)

    assert git_state(tmp_path) == {}
    results = tmp_path / "benchmarks" / "results" / "a.csv"
    code = tmp_path / "benchmarks" / "a.py"
    results.parent.mkdir(parents=True)
    for path in (results, code):
        path.write_text("old\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    results.write_text("new\n")
    state = git_state(tmp_path)
    assert not state["dirty"] and len(state["revision"]) == 40
    code.write_text("new\n")
    assert git_state(tmp_path) == {**state, "dirty": True}


def test_best_models_of_each_metric(tmp_path):
    folder = run(tmp_path, {"num_epochs_train": 6})
    kept = History.load(folder / "seed0")
    epochs = {
        metric: kept.best_epoch(metric)
        for metric in ("precision_at_1", "mean_average_precision_at_r")
    }
    for metric, epoch in epochs.items():
        names = os.listdir(folder / "seed0" / "models" / f"best_on_test_{metric}")
        expected = {"embedder", "trunk"}
        if metric == kept.primary_metric:  # training can go on from it
            optimizers = {f"{name}_optimizer" for name in (*expected, "metric_loss")}
            expected |= {*optimizers, "embedder_scheduler_by_epoch", "metric_loss"}
            expected |= {"rng"}
        assert {*names} == {f"{name}_{epoch}.pth" for name in expected}


def test_best_epoch_is_the_first_of_equals_and_not_before_training():
    kept = History(0, None, 3, "m", None, "test")
    for epoch, value in enumerate([0.9, 0.5, 0.7, 0.7]):
        kept.epochs.append({"epoch": epoch, "splits": {"test": {"m": value}}})
    assert kept.best_epoch("m") == 2 and kept.best_epoch("other") is None
    kept.truncate(1)
    assert kept.best_epoch("m") == 1


def test_no_figure_of_embeddings_that_are_all_alike(tmp_path, capsys):
    changes = {"tsne_classes": 3, "optimizers~APPLY~3": {"lr": 1e18}}
    folder = run(tmp_path, {**changes, "num_epochs_train": 2}) / "seed0"
    assert history(folder)["finished"] and not (folder / "tsne.png").exists()
    assert "no t-SNE figure" in capsys.readouterr().out


def test_memvir_that_does_nothing_is_told(tmp_path, capsys):
    short = {"num_epochs_train": 1}  # 6 steps, as many as warm-up has
    run(tmp_path, short)
    assert "MemVir does nothing in this run" in capsys.readouterr().out
    checker = Checker(torch.device("cpu"))
    assert "nothing in this run" in checker.check(tiny.config(short)).idle
    assert checker.check(tiny.config({"num_epochs_train": 2})).idle == ""
    run(tmp_path / "longer", {"num_epochs_train": 2})
    assert "does nothing" not in capsys.readouterr().out


def test_random_weights_are_told_and_batch_norms_that_stay_so():
    freeze = {"trainer~APPLY~2": {"freeze_trunk_batchnorm": True}}
    assert random_weights(tiny.config({})) == RANDOM
    assert random_weights(tiny.config(freeze)) == f"{RANDOM}, and {FROZEN}"
    models = {"trunk~OVERRIDE~": {"resnet18": {"checkpoint": "a.pth"}}}
    assert random_weights(tiny.config({**freeze, "models": models})) == ""


def test_images_of_several_sizes_are_found_before_training(tmp_path):
    class Uneven(tiny.Tiny):
        def __getitem__(self, index):
            image = Image.fromarray(self.images[index])
            image = image.resize((12 + index % 3, 12))
            return self.transform(image), self.labels[index]

    registry.register("dataset", Uneven)
    with pytest.raises(ConfigError, match="images of train have several sizes"):
        run(tmp_path, {"dataset~OVERRIDE~": {"Uneven": {}}})
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
def test_patience(tmp_path):
    slow = {"optimizers~APPLY~3": {"lr": 0.0}}  # nothing is learnt: never better
    folder = run(tmp_path, {**slow, "patience": 2, "num_epochs_train": 9})
    found = history(folder, "seed0")
    assert found["stopped_early"] and found["finished"]
    best = History.load(folder / "seed0").best_epoch(found["primary_metric"])
    assert found["epochs"][-1]["epoch"] == best + 2 + 1 < 9
    changes = {**slow, "patience": 4, "num_epochs_train": 9}
    with pytest.raises(ConfigError, match="patience: 2 -> 4"):
        run(tmp_path, changes)
    experiment.run(tiny.config(changes), tmp_path, CPU, from_best=True)
    assert history(folder, "seed0")["epochs"][-1]["epoch"] == best + 4 + 1
    assert "patience: 2 -> 4" in (folder / "changes.txt").read_text()


def test_plain_and_memvir_see_the_same_batches_until_virtual_classes(tmp_path):
    plain = {
        "experiment_name": "tiny/plain",
        "loss_funcs": {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scale": 10.0}}},
    }
    changes = {"num_epochs_train": 1, "hook_container~APPLY~2": {"log_freq": 1}}
    one = records(run(tmp_path, changes) / "seed0")["loss_histories.csv"]
    other = records(run(tmp_path, {**changes, **plain}) / "seed0")["loss_histories.csv"]
    assert one == other and len(one) == 7


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(tmp_path, precision):
    if precision == "float16" and not hasattr(torch.amp, "GradScaler"):
        pytest.skip("before PyTorch 2.3 the gradient scaler is for CUDA only")
    changes = {"trainer~APPLY~2": {"mixed_precision": precision}}
    folder = run(tmp_path, changes)
    assert history(folder, "seed0")["finished"]
    exact = run(tmp_path / "exact")
    # The first step: later on, the gradient scaler leaves out steps that overflow.
    of_first_step = [
        float(records(f / "seed0")["loss_histories.csv"][1][1]) for f in (folder, exact)
    ]
    assert of_first_step[0] == pytest.approx(of_first_step[1], rel=0.01)
    assert of_first_step[0] != of_first_step[1]
    scaler = folder / "seed0" / "models" / "scaler_4.pth"
    assert scaler.exists() == (precision == "float16")
