"""What the report reads of experiments, and what it refuses."""

import json
import re

import pytest

pytest.importorskip("omegaconf", reason="the report reads config.yaml with it")

from benchmarks.report import ReportError  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import DEFAULT_FOLDS, load  # noqa: E402
from benchmarks.report.selection import choose  # noqa: E402

from .report_folders import POINTS, R1, experiment, history, of_values  # noqa: E402


def test_data_set_and_memvir_are_the_configs(tmp_path):
    folder = experiment(tmp_path, "mine/cos", of_values(0.5))
    with (folder / "config.yaml").open("a") as file:
        file.write("dataset: {Glyphs: {root: x}}\n")
        file.write("loss_funcs: {metric_loss: {MemVir: {loss: {CosFaceLoss: {}}}}}\n")
    (read,) = load([tmp_path])
    assert (read.dataset, read.arm, read.memvir) == ("glyphs", "mine/cos", True)
    assert not build([read]).panels[0].curves[R1][0].plain


def test_folds_that_have_not_begun_are_missing(tmp_path):
    folds = [history(0, {1: (0.5, 0.5, 0.5)}, fold=f) for f in (0, 1)]
    folder = experiment(tmp_path, "sop/softmax", folds)
    with (folder / "config.yaml").open("a") as file:
        file.write("split_manager: {ClassDisjointSplitManager: {num_training_sets: 4}}")
    (read,) = load([tmp_path])
    assert not read.seeds[0].complete and "fold 2" in read.seeds[0].unfinished[0]


def test_folds_that_the_config_leaves_to_the_split_manager(tmp_path):
    from benchmarks.protocol.split_managers import ClassDisjointSplitManager

    manager = ClassDisjointSplitManager()
    assert DEFAULT_FOLDS == {type(manager).__name__: manager.num_folds}
    folds = [history(0, {1: (0.5, 0.5, 0.5)}, fold=f) for f in (0, 1)]
    folder = experiment(tmp_path, "sop/softmax", folds)
    with (folder / "config.yaml").open("a") as file:
        file.write("split_manager: {ClassDisjointSplitManager: {shuffle: true}}")
    (read,) = load([tmp_path])
    assert read.seeds[0].unfinished == ("fold 2 not begun", "fold 3 not begun")


def test_arms_that_tables_could_not_tell_apart(tmp_path):
    for name in ("x", "glyphs/x"):
        folder = experiment(tmp_path / name, name, of_values(0.5))
        with (folder / "config.yaml").open("a") as file:
            file.write("dataset: {Glyphs: {root: x}}\n")
    with pytest.raises(ReportError, match="would both be called 'x' on glyphs"):
        load([tmp_path])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda h: "{", "cannot be read as JSON"),
        (lambda h: json.dumps([h]), "expected an object, got 'list'"),
        (lambda h: json.dumps(h | {"format": 2}), "expected format 1, got 2"),
        (lambda h: json.dumps(h | {"seed": 4}), "expected seed 0 by its folder, got 4"),
        (lambda h: json.dumps(h | {"finished": 1}), "'finished' to be bool, got 1"),
        (lambda h: json.dumps(h | {"num_epochs": 9}), "expected epoch 9 last"),
        (
            lambda h: json.dumps(h | {"epochs": []}),
            "expected epochs, as it is finished",
        ),
        (lambda h: json.dumps(h | {"epochs": 2 * h["epochs"]}), "steps to grow"),
        (lambda h: json.dumps(h).replace("0.5", "NaN"), "a fraction, 0 to 1, got nan"),
        (lambda h: json.dumps(h).replace("0.5", "50"), "a fraction, 0 to 1, got 50"),
        (lambda h: json.dumps(h).replace("0.5", '"x"'), "int or float, got 'x'"),
        (lambda h: json.dumps({"format": 1, "seed": 0}), "object with 'num_epochs'"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, damage, message):
    folder = experiment(tmp_path, "sop/softmax", of_values(0.5))
    path = folder / "seed0/history.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ReportError, match=message) as error:
        load([tmp_path])
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "config", ["- a\n", "a: [\n", "model: x\n", "experiment_name: {a: 1}\n", "\0"]
)
def test_a_foreign_config_is_named(tmp_path, config):
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ReportError, match=re.escape(str(tmp_path / "config.yaml"))):
        load([tmp_path])


def test_trials_that_do_not_belong_together(tmp_path):
    other = history(1, {1: (0.5, 0.5), 2: (0.5, 0.5)})
    experiment(tmp_path / "a", "sop/softmax", [*of_values(0.5), other])
    with pytest.raises(ReportError, match="differ in number of epochs"):
        load([tmp_path / "a"])
    for copy in ("b", "c"):
        experiment(tmp_path / "d" / copy, "sop/softmax", of_values(0.5))
    with pytest.raises(ReportError, match="both named 'sop/softmax'"):
        load([tmp_path / "d"])
    experiment(tmp_path / "d/b/sop/tune", "trial-1", of_values(0.5))
    assert len(load([tmp_path / "d/b", tmp_path / "d/b/sop"])) == 1
    with pytest.raises(ReportError, match="no config.yaml in or below"):
        load([tmp_path / "d/b/sop/softmax/seed0"])


def test_until_is_the_report_of_a_shorter_training(tmp_path):
    """Also of a trial that has got no further than that, or is shorter anyway."""
    longer = history(1, {5: (0.6, 0.3, 0.2), 10: (0.7, 0.2, 0.4)}, num_epochs=20)
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS), longer])
    experiment(tmp_path / "a", "glyphs/cosface", [history(0, {5: (0.1, 0.1, 0.1)})])
    cosface, softmax = load([tmp_path / "a"], until=10)
    assert list(softmax.complete_seeds) == [0, 1] and softmax.num_epochs == 10
    for trial in softmax.trials:
        assert [e.epoch for e in trial.trained] == [5, 10]
        assert choose(trial, "last", R1).epoch == 10
    assert (cosface.num_epochs, list(cosface.complete_seeds)) == (5, [0])
    (unfinished,) = load([tmp_path / "a" / "glyphs" / "softmax"], until=15)
    assert list(unfinished.complete_seeds) == [0]


def test_until_keeps_what_stopped_early(tmp_path):
    early = history(0, {5: (0.6, 0.3)}, num_epochs=20, stopped_early=True)
    experiment(tmp_path / "a", "glyphs/softmax", [early])
    for until, stopped in ((10, True), (5, False)):
        (softmax,) = load([tmp_path / "a"], until=until)
        (trial,) = softmax.trials
        assert trial.complete and trial.stopped_early is stopped


def test_until_must_be_an_evaluation(tmp_path):
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS)])
    with pytest.raises(ReportError, match="no evaluation at epoch 7; there are 5, 10"):
        load([tmp_path / "a"], until=7)
