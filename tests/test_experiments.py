"""Experiments: what is trained and measured, and that a kill changes nothing of it."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)
from torch.nn.functional import normalize  # noqa: E402

from benchmarks.config import ConfigError, registry  # noqa: E402
from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.checkpoint import load_models  # noqa: E402
from benchmarks.protocol.evaluation import evaluate  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.protocol.locks import locked  # noqa: E402
from benchmarks.protocol.split_managers import (  # noqa: E402
    ClassDisjointSplitManager,
)
from benchmarks.protocol.trial import build_trial  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import load  # noqa: E402
from benchmarks.report.names import metric_label  # noqa: E402
from pml_memvir import MemVir  # noqa: E402

from . import tiny  # noqa: E402

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 6  # 56 images, 10 a batch, the last one of 6
FOLDS = {
    "split_manager~OVERRIDE~": {
        "ClassDisjointSplitManager": {
            "num_training_partitions": 4,
            "num_training_sets": 2,
        }
    }
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(tmp_path, changes=None):
    config = tiny.config(changes)
    return experiment.run(config, tmp_path, CPU)


def history(folder, *parts):
    return json.loads(folder.joinpath(*parts, "history.json").read_text())


def records(folder):
    """All CSV files of record-keeper, by name."""
    found = {}
    for path in sorted((folder / "records").glob("*.csv")):
        with path.open() as file:
            found[path.name] = list(csv.reader(file))
    return found


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
    assert len(environment["sessions"]) == 1
    with closing(sqlite3.connect(trial / "records" / "logs.db")) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("loss_histories",) in names
    losses = records(trial)["loss_histories.csv"]
    assert [row[0] for row in losses[1:]] == [str(i) for i in range(0, 24, 2)]


def test_a_training_that_diverges_ends_as_a_result(tmp_path):
    """With accuracies of 0, and a checkpoint of what it has become."""
    huge = {"optimizers": {"trunk_optimizer": {"Adam": {"lr": 1e36}}}}
    folder = run(tmp_path, {**huge, "tsne_classes": 3})
    found = history(folder, "seed0")
    assert found["finished"] and found["epochs"][-1]["loss"] is None
    assert set(found["epochs"][-1]["splits"]["test"].values()) == {0.0}
    state = torch.load(folder / "seed0" / "models" / "trunk_4.pth", weights_only=True)
    assert not all(tensor.isfinite().all() for tensor in state.values())


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
    two_seeds = experiment.load_saved(folder / "config.yaml")
    two_seeds.seeds.append(5)  # one that has not begun
    experiment.save(two_seeds, folder / "config.yaml")
    assert evaluate(folder, "last", (), CPU).caption == "not evaluated yet: seed5"
    with pytest.raises(ConfigError, match="best_on_validation were not kept"):
        evaluate(folder, "best_on_validation", (), CPU)


def test_best_models_of_each_metric(tmp_path):
    folder = run(tmp_path, {"num_epochs_train": 6})
    kept = History.load(folder / "seed0")
    epochs = {
        metric: kept.best_epoch(metric)
        for metric in ("precision_at_1", "mean_average_precision_at_r")
    }
    for metric, epoch in epochs.items():
        names = os.listdir(folder / "seed0" / "models" / f"best_on_test_{metric}")
        assert sorted(names) == [f"embedder_{epoch}.pth", f"trunk_{epoch}.pth"]


def test_best_epoch_is_the_first_of_equals_and_not_before_training():
    kept = History(0, None, 3, "m", None, "test")
    for epoch, value in enumerate([0.9, 0.5, 0.7, 0.7]):
        kept.epochs.append({"epoch": epoch, "splits": {"test": {"m": value}}})
    assert kept.best_epoch("m") == 2 and kept.best_epoch("other") is None
    kept.truncate(1)
    assert kept.best_epoch("m") == 1


# ------------------------------------------------------------------- kill and resume


class Killed(BaseException):
    pass


def kill_at(monkeypatch, count):
    """Make the `count`-th renaming or linking of a file the last thing that happens."""
    calls = [0]

    def counted(function):
        def wrapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] == count:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    for owner, name in ((os, "replace"), (os, "link"), (Path, "replace")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return calls


CHANGES = {"num_epochs_train": 4, "patience": 2}


def events(folder):
    """What TensorBoard shows of the training steps: (step, value) by name."""
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return {
        tag: [(event.step, str(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
        if not tag.startswith("accuracies")
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory, one_thread):
    with pytest.MonkeyPatch.context() as patch:
        calls = kill_at(patch, -1)
        folder = run(tmp_path_factory.mktemp("straight"), CHANGES)
    return folder / "seed0", calls[0]


@pytest.mark.parametrize("part", range(14))
def test_resumed_after_a_kill_at_any_write(straight, tmp_path, monkeypatch, part):
    expected, writes = straight
    with monkeypatch.context() as patch:
        kill_at(patch, 1 + part * (writes - 1) // 13)
        with pytest.raises(Killed):
            run(tmp_path, CHANGES)
    torch.manual_seed(99)  # another process has other random states
    folder = run(tmp_path, CHANGES) / "seed0"
    assert history(folder) == history(expected)
    assert records(folder) == records(expected)
    files = [
        {str(path.relative_to(f)) for path in (f / "models").rglob("*.pth")}
        for f in (folder, expected)
    ]
    assert files[0] == files[1]
    for name in files[0]:
        one, other = (
            torch.load(f / name, weights_only=True) for f in (folder, expected)
        )
        if "trunk_" in name and "optimizer" not in name:
            assert all(torch.equal(one[key], other[key]) for key in other)


def test_events_of_tensorboard_go_on_where_training_does(
    straight, tmp_path, monkeypatch
):
    """Killed between an epoch's evaluation and its checkpoint."""
    expected, _ = straight
    save = History.save

    def killed(history, folder):
        if len(history.epochs) == 2:
            raise Killed
        save(history, folder)

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", killed)
        with pytest.raises(Killed):
            run(tmp_path, CHANGES)
    folder = tmp_path / "tiny/norm_softmax_memvir/seed0"
    every_other = 2 * STEPS_PER_EPOCH // 2  # of two epochs' steps, by log_freq
    assert {len(found) for found in events(folder).values()} == {every_other}
    time.sleep(1)  # the files are in the order of the seconds that they began in
    run(tmp_path, CHANGES)
    assert events(folder) == events(expected)


def test_killed_for_real(tmp_path):
    command = [sys.executable, "-m", "tests.scripts.run_experiment"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True)
    trial = Path("tiny/norm_softmax_memvir/seed0")
    models = tmp_path / "killed" / trial / "models"
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    while process.poll() is None and not (models / "trunk_5.pth").exists():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not history(tmp_path / "killed" / trial)["finished"]
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    folders = [tmp_path / name / trial for name in ("straight", "killed")]
    assert history(folders[0]) == history(folders[1])
    assert records(folders[0]) == records(folders[1])


def test_kill_before_the_first_checkpoint(tmp_path, monkeypatch):
    """What was measured before training is measured again, and recorded once."""
    changes = {"num_epochs_train": 1, "check_untrained_accuracy": True}
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            run(tmp_path, changes)
    folder = run(tmp_path, changes) / "seed0"
    (name,) = [name for name in records(folder) if name.startswith("accuracies")]
    table = records(folder)[name]
    assert [row[0] for row in table[1:]] == ["0", "1"]


def test_kill_while_old_files_are_deleted(tmp_path, monkeypatch):
    unlink, count = Path.unlink, [0]

    def killed(path, **kwargs):
        if path.name.endswith("_1.pth"):
            count[0] += 1
            if count[0] == 3:
                raise Killed
        return unlink(path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            run(tmp_path)
    models = run(tmp_path) / "seed0" / "models"
    assert {path.stem[-2:] for path in models.glob("*.pth")} == {"_4"}


def test_kill_between_saving_and_keeping_the_best(tmp_path, monkeypatch):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed)
        with pytest.raises(Killed):
            run(tmp_path)
    folder = run(tmp_path) / "seed0"
    metric = "mean_average_precision_at_r"
    epoch = History.load(folder).best_epoch(metric)
    assert epoch == 1  # the one that was not copied
    assert (folder / "models" / f"best_on_test_{metric}" / "trunk_1.pth").exists()


def test_epochs_of_another_length_than_the_loader_resume(tmp_path, monkeypatch):
    changes = {"trainer~APPLY~2": {"iterations_per_epoch": 4}}  # of 6 batches
    expected = history(run(tmp_path / "straight", changes), "seed0")
    with monkeypatch.context() as patch:
        kill_at(patch, 25)
        with pytest.raises(Killed):
            run(tmp_path, changes)
    assert (
        0 < len(history(tmp_path / "tiny/norm_softmax_memvir", "seed0")["epochs"]) < 4
    )
    assert history(run(tmp_path, changes), "seed0") == expected


def test_figure_is_drawn_when_it_is_missing(tmp_path, monkeypatch):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "draw_tsne", killed)
        with pytest.raises(Killed):
            run(tmp_path, {"tsne_classes": 3})
    folder = run(tmp_path, {"tsne_classes": 3}) / "seed0"
    assert (folder / "tsne.png").exists()
    assert len(history(folder)["epochs"]) == 4


def test_no_figure_of_embeddings_that_are_all_alike(tmp_path, capsys):
    changes = {"tsne_classes": 3, "optimizers~APPLY~3": {"lr": 1e18}}
    folder = run(tmp_path, {**changes, "num_epochs_train": 2}) / "seed0"
    assert history(folder)["finished"] and not (folder / "tsne.png").exists()
    assert "no t-SNE figure" in capsys.readouterr().out


def test_one_process_a_trial(tmp_path):
    folder = tmp_path / "tiny" / "norm_softmax_memvir" / "seed0"
    folder.mkdir(parents=True)
    with locked(folder, "held"):
        with pytest.raises(ConfigError, match="another process trains here"):
            run(tmp_path)
    assert history(run(tmp_path), "seed0")["finished"]


def test_queue_of_cross_batch_memory_resumes(straight, tmp_path, monkeypatch):
    contrastive = {"loss": {"ContrastiveLoss": {}}, "memory_size": 37}
    loss = {"metric_loss~OVERRIDE~": {"CrossBatchMemory": contrastive}}
    changes = {
        "loss_funcs": loss,
        "optimizers": {"metric_loss_optimizer~DELETE~": {}},
    }
    expected = history(run(tmp_path / "straight", changes), "seed0")
    with monkeypatch.context() as patch:
        kill_at(patch, 30)
        with pytest.raises(Killed):
            run(tmp_path, changes)
    assert (
        0 < len(history(tmp_path / "tiny/norm_softmax_memvir", "seed0")["epochs"]) < 4
    )
    assert history(run(tmp_path, changes), "seed0") == expected


def test_finished_trials_are_left_alone_and_seeds_can_be_added(tmp_path):
    folder = run(tmp_path)
    path = folder / "seed0" / "history.json"
    written = path.stat().st_mtime_ns
    run(tmp_path, {"seeds": [1]})
    assert path.stat().st_mtime_ns == written
    assert history(folder, "seed1")["finished"]
    assert experiment.load_saved(folder / "config.yaml").seeds == [0, 1]
    one, other = (history(folder, f"seed{seed}")["epochs"] for seed in (0, 1))
    assert one[-1]["loss"] != other[-1]["loss"]


def test_another_config_is_refused(tmp_path):
    folder = run(tmp_path, {"num_epochs_train": 1})
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="num_epochs_train: 1 -> 2"):
        run(tmp_path, {"num_epochs_train": 2})
    with pytest.raises(ConfigError, match="NormSoftmax.scale: 10.0 -> 5"):
        scale = {"metric_loss": {"MemVir": {"loss": {"NormSoftmax": {"scale": 5}}}}}
        run(tmp_path, {"num_epochs_train": 1, "loss_funcs": scale})
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'scale'"):
        scal = {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scal": 1}}}
        run(tmp_path, {"loss_funcs": scal})
    assert not list(tmp_path.iterdir())


def test_a_folder_where_nothing_was_measured_may_change(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, 3)  # config and environment are there, and no history
        with pytest.raises(Killed):
            run(tmp_path, {"seeds": [3]})
    folder = run(tmp_path, {"num_epochs_train": 1})
    saved = experiment.load_saved(folder / "config.yaml")
    assert saved.num_epochs_train == 1 and saved.seeds == [0]


def test_memvir_that_does_nothing_is_told(tmp_path, capsys):
    run(tmp_path, {"num_epochs_train": 1})  # 6 steps, as many as warm-up has
    assert "MemVir does nothing in this run" in capsys.readouterr().out
    run(tmp_path / "longer", {"num_epochs_train": 2})
    assert "does nothing" not in capsys.readouterr().out


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


def test_one_fold_is_a_plain_validation_set(tmp_path):
    one = {"ClassDisjointSplitManager": {"num_training_sets": 1}}
    folder = run(tmp_path, {"split_manager~OVERRIDE~": one, "num_epochs_train": 2})
    assert not (folder / "seed0" / "concatenated.json").exists()
    report = build(load([folder]))
    assert [s.selection for s in report.sections] == [
        "last",
        "best_on_validation",
        "best_on_test",
    ]
    assert {r.accuracy for s in report.sections for r in s.results} == {"single"}


def test_patience(tmp_path):
    slow = {"optimizers~APPLY~3": {"lr": 0.0}}  # nothing is learnt: never better
    folder = run(tmp_path, {**slow, "patience": 2, "num_epochs_train": 9})
    found = history(folder, "seed0")
    assert found["stopped_early"] and found["finished"]
    best = History.load(folder / "seed0").best_epoch(found["primary_metric"])
    assert found["epochs"][-1]["epoch"] == best + 2 + 1 < 9


# ------------------------------------------------------------------ classes and folds


def test_folds_share_no_class():
    seen = []
    for fold in range(4):
        splits = ClassDisjointSplitManager(4, 4).splits(
            lambda split, transform: tiny.Tiny(split), tiny.Tiny.SPLITS, fold
        )
        validation = set(splits.evaluation["val"].labels)
        trained = {tiny.Tiny("train").labels[i] for i in splits.train.indices}
        assert validation | trained == set(range(8)) and not validation & trained
        assert sorted(set(splits.train.labels)) == list(range(6))
        assert set(splits.evaluation["test"].labels) == set(range(8, 12))
        seen += validation
    assert sorted(seen) == list(range(8))


def test_test_classes_by_fraction_as_powerful_benchmarker_gives_them():
    manager = ClassDisjointSplitManager(2, 1, test_size=0.5, test_start_idx=0.75)
    splits = manager.splits(
        lambda split, transform: tiny.Tiny(split), tiny.Tiny.SPLITS, 0
    )
    assert set(splits.evaluation["test"].labels) == {9, 10, 11, 0, 1, 2}
    assert set(splits.evaluation["val"].labels) == {3, 4, 5}
    assert {tiny.Tiny("train").labels[0]} == {0} and splits.num_classes == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_training_partitions": 1}, ">= 2"),
        ({"num_training_sets": 5}, "from 1 to"),
        ({"test_size": 1.5}, "between 0 and 1"),
    ],
)
def test_split_manager_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassDisjointSplitManager(**arguments)


def test_cross_validation_and_concatenated_embeddings(tmp_path):
    folder = run(tmp_path, FOLDS)
    joined = json.loads((folder / "seed0" / "concatenated.json").read_text())
    config = tiny.config(FOLDS)
    for selection in ("last", "best_on_validation"):
        parts = []
        for fold in (0, 1):
            trial = build_trial(config, 0, fold, None, CPU)
            epoch = load_models(trial, folder / "seed0" / f"fold{fold}", selection)
            kept = History.load(folder / "seed0" / f"fold{fold}")
            assert epoch == (
                4
                if selection == "last"
                else kept.best_epoch(kept.primary_metric, "val")
            )
            for model in trial.models.values():
                model.eval()
            data = trial.splits.evaluation["test"]
            images = torch.stack([data[i][0] for i in range(len(data))])
            with torch.no_grad():
                embeddings = trial.models["embedder"](trial.models["trunk"](images))
            parts.append(normalize(embeddings))
        labels = torch.tensor(data.labels)
        similar = torch.cat(parts, 1) @ torch.cat(parts, 1).T
        nearest = similar.fill_diagonal_(-9).argmax(1)
        recall = (labels[nearest] == labels).double().mean().item()
        assert joined[selection]["precision_at_1"] == pytest.approx(recall)
    starts = [
        build_trial(config, 0, fold, None, CPU).models["trunk"].state_dict()["0.weight"]
        for fold in (0, 1)
    ]
    assert not torch.equal(*starts)  # each fold's model starts elsewhere
    first = history(folder, "seed0", "fold0")
    assert first["fold"] == 0 and first["validation"] == "val"
    assert (
        first["epochs"][0]["loss"]
        != history(folder, "seed0", "fold1")["epochs"][0]["loss"]
    )


def test_queries_are_searched_in_the_gallery(tmp_path):
    folder = run(tmp_path, {"dataset~OVERRIDE~": {"TinyShop": {}}})
    found = history(folder, "seed0")
    trial = build_trial(
        experiment.load_saved(folder / "config.yaml"), 0, None, None, CPU
    )
    load_models(trial, folder / "seed0", "last")
    sets = {}
    for name in ("query", "gallery"):
        sets[name] = trial.tester.get_all_embeddings(
            trial.splits.evaluation[name],
            trial.models["trunk"],
            trial.models["embedder"],
        )
    nearest = (sets["query"][0] @ sets["gallery"][0].T).argmax(1)
    recall = (sets["gallery"][1][nearest] == sets["query"][1]).double().mean().item()
    assert found["test"] == "query"
    assert found["epochs"][-1]["splits"]["query"]["precision_at_1"] == pytest.approx(
        recall
    )


# ------------------------------------------------------------------- building a trial


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


def test_plain_and_memvir_see_the_same_batches_until_virtual_classes(tmp_path):
    plain = {
        "experiment_name": "tiny/plain",
        "loss_funcs": {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scale": 10.0}}},
    }
    changes = {"num_epochs_train": 1, "hook_container~APPLY~2": {"log_freq": 1}}
    one = records(run(tmp_path, changes) / "seed0")["loss_histories.csv"]
    other = records(run(tmp_path, {**changes, **plain}) / "seed0")["loss_histories.csv"]
    assert one == other and len(one) == 7


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


def test_deterministic_mode():
    try:
        build_trial(tiny.config({"deterministic": True}), 0, None, None, CPU)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
