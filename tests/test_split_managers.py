"""Classes and folds: who trains, who is searched, and in what."""

import json
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from benchmarks.config import load_saved  # noqa: E402
from benchmarks.protocol.checkpoint import load_models  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.protocol.split_managers import ClassDisjointSplitManager  # noqa: E402
from benchmarks.protocol.trial import build_trial  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.runs import read  # noqa: E402

from . import tiny  # noqa: E402
from .experiment_runs import CPU, FOLDS, history, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_fold_is_a_plain_validation_set(tmp_path):
    one = {"ClassDisjointSplitManager": {"num_training_sets": 1}}
    folder = run(tmp_path, {"split_manager~OVERRIDE~": one, "num_epochs_train": 2})
    assert not (folder / "seed0" / "concatenated.json").exists()
    report = build(read([folder]))
    assert list(report.selections) == [
        "last",
        "best_on_validation",
        "best_on_test",
    ]
    assert {kind for *_, arms in report.sections() for _, kind in arms} == {"single"}


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
            epoch = load_models(
                trial.models, folder / "seed0" / f"fold{fold}", selection
            )
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


@pytest.mark.parametrize("settings", [{"use_trunk_output": True}, {"pca": 3}], ids=str)
def test_folds_are_concatenated_as_the_tester_says(settings, tmp_path):
    """PCA is of the whole split, not of each batch."""
    changes = {**FOLDS, "tester~APPLY~2": {**settings, "batch_size": 7}}
    folder = run(tmp_path, changes)
    found = json.loads((folder / "seed0" / "concatenated.json").read_text())
    parts = []
    for fold in (0, 1):
        trial = build_trial(tiny.config(changes), 0, fold, None, CPU)
        load_models(trial.models, folder / "seed0" / f"fold{fold}", "last")
        trunk, embedder = (m.eval() for m in trial.models.values())
        data = trial.splits.evaluation["test"]
        with torch.no_grad():
            output = trunk(torch.stack([image for image, _ in data]))
            whole = output if "use_trunk_output" in settings else embedder(output)
        parts.append(trial.tester.maybe_normalize(whole))
    joined = trial.tester.maybe_normalize(torch.cat(parts, 1))
    nearest = (joined @ joined.T).fill_diagonal_(-9).argmax(1)
    labels = torch.tensor(data.labels)
    recall = (labels[nearest] == labels).double().mean().item()
    assert found["last"]["precision_at_1"] == pytest.approx(recall)


def test_queries_are_searched_in_the_gallery(tmp_path):
    folder = run(tmp_path, {"dataset~OVERRIDE~": {"TinyShop": {}}})
    found = history(folder, "seed0")
    trial = build_trial(load_saved(folder / "config.yaml"), 0, None, None, CPU)
    load_models(trial.models, folder / "seed0", "last")
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


class Labelled:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


def test_folds_are_those_of_the_page():
    """Of CARS196, beside those of powerful-benchmarker's MLRCSplitManager."""
    page = Path(__file__).parent.parent / "docs" / "from-powerful-benchmarker.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    manager = ClassDisjointSplitManager(test_size=0.5)

    def make(split, transform):
        start = 98 * (split == "test")
        return Labelled(list(range(start, start + 98)) * 2)

    found = []
    for fold in range(4):
        splits = manager.splits(make, ("train", "test"), fold)
        classes = sorted(set(splits.evaluation["val"].labels))
        assert classes == list(range(classes[0], classes[-1] + 1))
        found.append(f"{classes[0]} to {classes[-1]}")
    assert f"ours are {', '.join(found[:3])} and {found[3]}" in text
