"""What the report reads of experiments, and what it refuses."""

import json
import re

import pytest

from benchmarks.report import ReportError
from benchmarks.report.build import build
from benchmarks.report.contents import DEFAULT_FOLDS
from benchmarks.report.curves import _plain
from benchmarks.report.runs import NO_FOLD, read
from benchmarks.report.selection import select

from .report_folders import (
    MAP,
    POINTS,
    R1,
    RP,
    experiment,
    history,
    of_values,
)

GLYPHS = "dataset: {Glyphs: {root: x}}\n"


def test_data_set_and_memvir_are_the_configs(tmp_path):
    loss = "loss_funcs: {metric_loss: {MemVir: {loss: {CosFaceLoss: {}}}}}\n"
    experiment(tmp_path, "mine/cos", of_values(0.5), config=GLYPHS + loss)
    runs = read([tmp_path])
    (arm,) = runs.experiments.itertuples()
    assert (arm.dataset, arm.arm, arm.memvir) == ("glyphs", "mine/cos", True)
    assert not _plain(build(runs)).any()


@pytest.mark.parametrize("arguments", ["num_training_sets: 4", "shuffle: true"])
def test_folds_that_have_not_begun_are_missing(tmp_path, arguments):
    """As many as the config says, or leaves to the split manager."""
    from benchmarks.protocol.split_managers import ClassDisjointSplitManager

    manager = ClassDisjointSplitManager()
    assert DEFAULT_FOLDS == {type(manager).__name__: manager.num_folds}
    folds = [history(0, {1: (0.5, 0.5, 0.5)}, fold=f) for f in (0, 1)]
    config = f"split_manager: {{ClassDisjointSplitManager: {{{arguments}}}}}"
    experiment(tmp_path, "sop/softmax", folds, config=config)
    (seed,) = read([tmp_path]).seeds.itertuples()
    assert not seed.complete
    assert seed.missing == "fold 2 not begun, fold 3 not begun"


def test_arms_that_tables_could_not_tell_apart(tmp_path):
    for name in ("x", "glyphs/x"):
        experiment(tmp_path / name, name, of_values(0.5), config=GLYPHS)
    with pytest.raises(ReportError, match="would both be called 'x' on glyphs"):
        read([tmp_path])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda h: "{", "cannot be read as JSON"),
        (lambda h: json.dumps([h]), "expected an object, got 'list'"),
        (lambda h: json.dumps(h | {"format": 2}), "format: Input should be 1, got 2"),
        (lambda h: json.dumps(h | {"seed": 4}), "expected seed 0 by its folder, got 4"),
        (lambda h: json.dumps(h | {"finished": 1}), "finished: .* boolean, got 1"),
        (lambda h: json.dumps(h | {"num_epochs": 9}), "a last epoch of 9 to 9, got 1"),
        (
            lambda h: json.dumps(h | {"epochs": []}),
            "a last epoch of 1 to 1, got 0",
        ),
        (lambda h: json.dumps(h | {"epochs": 2 * h["epochs"]}), "steps to grow"),
        (lambda h: json.dumps(h).replace("0.5", "Infinity"), "a fraction, .* got inf"),
        (
            lambda h: json.dumps(h).replace("0.5", "1" + 400 * "0"),
            "valid number|a fraction",
        ),
        (lambda h: json.dumps(h).replace('"test": {', '"file": {'), "name of a split"),
        (lambda h: json.dumps(h).replace("0.5", "50"), "a fraction, 0 to 1, got 50"),
        (lambda h: json.dumps(h).replace("0.5", '"x"'), "valid number, got 'x'"),
        (lambda h: json.dumps({"format": 1, "seed": 0}), "num_epochs: Field required"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, damage, message):
    folder = experiment(tmp_path, "sop/softmax", of_values(0.5))
    path = folder / "seed0/history.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ReportError, match=message) as error:
        read([tmp_path])
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "config", ["- a\n", "a: [\n", "model: x\n", "experiment_name: {a: 1}\n", "\0"]
)
def test_a_foreign_config_is_named(tmp_path, config):
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ReportError, match=re.escape(str(tmp_path / "config.yaml"))):
        read([tmp_path])


def test_trials_that_do_not_belong_together(tmp_path):
    other = history(1, {1: (0.5, 0.5), 2: (0.5, 0.5)})
    experiment(tmp_path / "a", "sop/softmax", [*of_values(0.5), other])
    with pytest.raises(ReportError, match="differ in number of epochs"):
        read([tmp_path / "a"])
    for copy in ("b", "c"):
        experiment(tmp_path / "d" / copy, "sop/softmax", of_values(0.5))
    with pytest.raises(ReportError, match="both named 'sop/softmax'"):
        read([tmp_path / "d"])
    experiment(tmp_path / "d/b/sop/tune", "trial-1", of_values(0.5))
    assert len(read([tmp_path / "d/b", tmp_path / "d/b/sop"]).experiments) == 1
    with pytest.raises(ReportError, match="no config.yaml in or below"):
        read([tmp_path / "d/b/sop/softmax/seed0"])


def test_until_is_the_report_of_a_shorter_training(tmp_path):
    """Also of a trial that has got no further than that, or is shorter anyway."""
    longer = history(1, {5: (0.6, 0.3, 0.2), 10: (0.7, 0.2, 0.4)}, num_epochs=20)
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS), longer])
    experiment(tmp_path / "a", "glyphs/cosface", [history(0, {5: (0.1, 0.1, 0.1)})])
    runs = read([tmp_path / "a"]).until(10)
    assert runs.complete_seeds("glyphs/softmax") == [0, 1]
    assert runs.complete_seeds("glyphs/cosface") == [0]
    lengths = dict(zip(runs.trials.experiment, runs.trials.num_epochs))
    assert lengths == {"glyphs/softmax": 10, "glyphs/cosface": 5}
    last = select(runs, "last", [R1]).set_index(["experiment", "seed"]).epoch
    assert last["glyphs/softmax"].to_dict() == {0: 10, 1: 10}
    unfinished = read([tmp_path / "a" / "glyphs" / "softmax"]).until(15)
    assert unfinished.complete_seeds("glyphs/softmax") == [0]


def test_until_keeps_what_stopped_early(tmp_path):
    early = history(0, {5: (0.6, 0.3)}, num_epochs=20, stopped_early=True)
    experiment(tmp_path / "a", "glyphs/softmax", [early])
    for until, stopped in ((10, True), (5, False)):
        (trial,) = read([tmp_path / "a"]).until(until).trials.itertuples()
        assert trial.complete and trial.stopped_early == stopped


def test_until_must_be_an_evaluation(tmp_path):
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS)])
    with pytest.raises(ReportError, match="no evaluation at epoch 7; there are 5, 10"):
        read([tmp_path / "a"]).until(7)
    with pytest.raises(ReportError, match="no evaluation at epoch 7"):
        read([tmp_path / "a"]).until(7)
    runs = read([tmp_path / "a"]).until(7, strict=False)
    assert runs.seeds.missing.iloc[0] == "not evaluated at epoch 7"


def test_a_config_is_read_without_what_it_refers_to(tmp_path, monkeypatch):
    """Neither the environment nor another of its values: it may be somebody else's."""
    monkeypatch.setenv("SECRET", "kept")
    folder = experiment(tmp_path, "sop/softmax", of_values(0.5))
    text = "experiment_name: a/${oc.env:SECRET}\nbaseline: ${oc.env:SECRET}\n"
    (folder / "config.yaml").write_text(text + "dataset: {'${oc.env:SECRET}': {}}\n")
    (arm,) = read([tmp_path]).experiments.itertuples()
    assert arm.Index == "a/${oc.env:SECRET}" and "kept" not in str(arm)


def test_the_tidy_table(tmp_path):
    """A row an experiment, seed, fold, epoch, split and metric."""
    one = history(3, {1: (0.5, 0.25)})
    one["epochs"][0]["memvir"] = {"actual_loss": 2.0}
    experiment(tmp_path, "sop/softmax", [one])
    values = read([tmp_path]).values
    assert set(values.experiment) == {"sop/softmax"} and set(values.seed) == {3}
    assert set(values.fold) == {NO_FOLD} and set(values.step) == {10}
    assert values.set_index(["split", "metric"]).value.to_dict() == {
        ("train", "loss"): 1.0,
        ("test", R1): 0.5,
        ("test", RP): 0.25,
        ("test", MAP): 0.25,
        ("memvir", "actual_loss"): 2.0,
    }
