"""Recall@K beside PML's metrics."""

import io

import numpy as np
import pytest

pytest.importorskip("faiss", reason="PML's AccuracyCalculator searches with faiss")
pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
from pytorch_metric_learning.distances import LpDistance  # noqa: E402
from pytorch_metric_learning.utils import accuracy_calculator as pml  # noqa: E402
from pytorch_metric_learning.utils.inference import CustomKNN  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.config import load  # noqa: E402
from benchmarks.protocol import blocks  # noqa: E402
from benchmarks.protocol.accuracy import AccuracyCalculator  # noqa: E402
from benchmarks.protocol.experiment import run_trial  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.report.names import metric_label, metric_name  # noqa: E402

from . import tiny  # noqa: E402
from .peak import PeakOfTensors  # noqa: E402

KS = (2, 5, 20)


def embeddings(num, num_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num,), generator=generator)
    return torch.randn(num, 6, generator=generator), labels


def naive_recall(k, query, query_labels, reference=None, reference_labels=None):
    """By sorting all distances, a query at a time; NaN without a reference."""
    alone = reference is None
    if alone:
        reference, reference_labels = query, query_labels
    found = []
    for i, one in enumerate(query):
        distances = (reference - one).norm(dim=1)
        others = [j for j in distances.argsort().tolist() if not (alone and j == i)]
        same = [bool(reference_labels[j] == query_labels[i]) for j in others]
        found.append(any(same[:k]) if any(same) else np.nan)
    return np.array(found, dtype=float)


@pytest.mark.parametrize("k", [None, "max_bin_count", 3])
def test_recall_and_unchanged_metrics(k):
    query, labels = embeddings(60, 12, seed=0)
    labels[7] = 99  # no other of its class
    ours = AccuracyCalculator(recall_at=KS, k=k, exclude=("NMI", "AMI"))
    theirs = pml.AccuracyCalculator(k=k, exclude=("NMI", "AMI"))
    found = ours.get_accuracy(query, labels)
    expected = theirs.get_accuracy(query, labels)
    assert {name: found.pop(f"recall_at_{name}") for name in KS} == {
        name: pytest.approx(np.nanmean(naive_recall(name, query, labels)))
        for name in KS
    }
    assert found == expected and "mean_reciprocal_rank" in found


def test_gallery_of_other_images():
    query, labels = embeddings(30, 5, seed=1)
    gallery, gallery_labels = embeddings(12, 5, seed=2)
    labels[3] = 99  # not in the gallery
    calculator = AccuracyCalculator(
        recall_at=[3, 50], include=("precision_at_1",), k="max_bin_count"
    )
    found = calculator.get_accuracy(query, labels, gallery, gallery_labels)
    naive = naive_recall(3, query, labels, gallery, gallery_labels)
    assert 0 < found["recall_at_3"] < 1
    assert found["recall_at_3"] == pytest.approx(np.nanmean(naive))
    assert found["recall_at_50"] == 1  # more than there are references
    assert list(found) == ["precision_at_1", "recall_at_3", "recall_at_50"]


def test_by_class():
    query, labels = embeddings(40, 4, seed=3)
    naive = naive_recall(2, query, labels)
    means = [naive[labels == c].mean() for c in range(4)]
    each = AccuracyCalculator([2], ["precision_at_1"], k=1, return_per_class=True)
    assert each.get_accuracy(query, labels)["recall_at_2"] == pytest.approx(means)
    mean = AccuracyCalculator([2], ["precision_at_1"], k=1, avg_of_avgs=True)
    assert mean.get_accuracy(query, labels)["recall_at_2"] == pytest.approx(
        np.mean(means)
    )


def test_no_query_has_a_match():
    query, labels = embeddings(5, 3, seed=4)
    calculator = AccuracyCalculator([2], ["precision_at_1"], k="max_bin_count")
    found = calculator.get_accuracy(query, labels, query, labels + 10)
    assert np.isnan(found["recall_at_2"])


@pytest.mark.parametrize("wrong", [[1], [0], [2.5], ["2"], [True], 2, None, "2"])
def test_wrong_k(wrong):
    with pytest.raises(ValueError, match="recall_at must list integers of 2 or more"):
        AccuracyCalculator(recall_at=wrong)


def test_in_a_run(tmp_path):
    calculator = {"AccuracyCalculator": {"recall_at": [2, 4]}}
    tester = {"GlobalEmbeddingSpaceTester": {"accuracy_calculator": calculator}}
    config = tiny.config({"tester": tester, "num_epochs_train": 1})
    quiet = Console(file=io.StringIO())
    run_trial(config, 0, 0, tmp_path, torch.device("cpu"), quiet)
    found = History.load(tmp_path).epochs[-1]["splits"]["test"]
    assert found["precision_at_1"] <= found["recall_at_2"] <= found["recall_at_4"]
    best = {path.name for path in (tmp_path / "models").glob("best_on_*")}
    usual = ("mean_average_precision_at_r", "precision_at_1")
    assert best == {f"best_on_test_{metric}" for metric in usual}


@pytest.mark.parametrize(
    "name, ks",
    [
        ("cub200/softmax", [2, 4, 8]),
        ("cars196/softmax", [2, 4, 8]),
        ("sop/softmax", [10, 100]),
        ("inshop/softmax", [10, 20]),
    ],
)
def test_presets_have_the_usual_ks(name, ks):
    tester = load(name).tester["GlobalEmbeddingSpaceTester"]
    assert tester["accuracy_calculator"]["AccuracyCalculator"]["recall_at"] == ks


@pytest.mark.parametrize("k", [2, 10, 100])
def test_labels(k):
    assert metric_label(f"recall_at_{k}") == f"Recall@{k}"
    assert metric_name(f"recall@{k}") == f"recall_at_{k}"
    assert metric_name("Recall@1") == "precision_at_1"


@pytest.mark.parametrize("way", ["usual", "avg_of_avgs", "return_per_class"])
@pytest.mark.parametrize("gallery", [False, True])
@pytest.mark.parametrize("knn", [None, "CustomKNN"])
def test_blocks_change_nothing(way, gallery, knn, monkeypatch):
    query, labels = embeddings(60, 9, seed=5)
    labels[7] = 99  # no other of its class
    reference = embeddings(70, 9, seed=6) if gallery else ()
    options = {"exclude": ("NMI", "AMI"), **({way: True} if way != "usual" else {})}
    if knn:
        options["knn_func"] = CustomKNN(LpDistance(normalize_embeddings=False))
    expected = AccuracyCalculator([2, 20], **options).get_accuracy(
        query, labels, *reference
    )
    theirs = pml.AccuracyCalculator(**options).get_accuracy(query, labels, *reference)
    assert theirs == {name: expected[name] for name in theirs}
    monkeypatch.setattr(blocks, "BLOCK", 71 * 7)  # seven queries, or few more
    monkeypatch.setattr(blocks, "COMPARED", 1000)
    in_blocks = AccuracyCalculator([2, 20], **options).get_accuracy(
        query, labels, *reference
    )
    rel = {"mean_reciprocal_rank": 1e-6}  # which PML computes in float32
    assert in_blocks == {
        name: pytest.approx(value, rel=rel.get(name, 1e-12), nan_ok=True)
        for name, value in expected.items()
    }


def test_many_neighbours_are_never_in_memory_at_once(monkeypatch):
    """Two classes: each query has half of the others for neighbours."""
    query, _ = embeddings(400, 2, seed=7)
    labels = torch.arange(400) % 2
    peaks = []
    for block in (1 << 22, 200 * 40):
        monkeypatch.setattr(blocks, "BLOCK", block)
        calculator = AccuracyCalculator(
            include=["mean_average_precision_at_r"], k="max_bin_count"
        )
        with PeakOfTensors() as watched:
            calculator.get_accuracy(query, labels)
        peaks.append(watched.peak)
    assert peaks[1] < peaks[0] / 4


def test_memory_is_told_before(tmp_path):
    output = io.StringIO()
    config = tiny.config({"num_epochs_train": 1})
    run_trial(config, 0, 0, tmp_path, torch.device("cpu"), Console(file=output))
    assert "evaluation needs about 0.0 MB" in output.getvalue()
