"""What MemVir saw in training: from a run through its history to the report."""

import json

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.watcher import Watcher  # noqa: E402
from benchmarks.report import ReportError, actual_shares_figure, run  # noqa: E402
from benchmarks.report.actual_shares import SHARE, actual_shares  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import load  # noqa: E402
from benchmarks.report.statistics import summarize  # noqa: E402
from benchmarks.report.structure import Insight, Line, Result, Section  # noqa: E402
from benchmarks.report.tables import insight_table  # noqa: E402
from pml_memvir import MemVir  # noqa: E402
from pml_memvir.losses import NormSoftmax  # noqa: E402
from pml_memvir.watched import RECORDED  # noqa: E402

from . import report_folders, tiny  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    root = tmp_path_factory.mktemp("runs")
    experiment.run(tiny.config({"seeds": [0, 1]}), root, CPU)
    return root


def histories(folder):
    paths = [folder / f"tiny/norm_softmax_memvir/seed{s}/history.json" for s in (0, 1)]
    return [json.loads(path.read_text()) for path in paths]


def test_history_has_what_memvir_saw(folder):
    for history in histories(folder):
        first, *others = (entry["memvir"] for entry in history["epochs"])
        assert first == {}  # warm-up
        for entry in others:
            assert set(entry) == set(RECORDED)
            shares = [v for name, v in entry.items() if name.startswith("share")]
            assert sum(shares) == pytest.approx(1) and min(shares) >= 0


def test_means_are_from_one_evaluation_to_the_next():
    memvir = MemVir(NormSoftmax(3, 4), num_steps=1, step_gap=0)
    watcher = Watcher()
    for scale in (0, 1):
        for _ in range(2):
            memvir(torch.full((3, 4), 0.5 * scale).requires_grad_(), torch.arange(3))
        watcher.look({"metric_loss": memvir})
        assert watcher.means()["actual_loss"] == memvir.actual_loss
    assert watcher.means() == {}


def test_means_over_seeds(folder):
    one, other = histories(folder)
    report = build(load([folder]))
    (insight,) = report.insights
    assert insight.label == "tiny/norm_softmax_memvir"
    line = insight.lines["share_of_own_copies"]
    assert line.x == (12, 18, 24)  # training steps
    values = [h["epochs"][1]["memvir"]["share_of_own_copies"] for h in (one, other)]
    assert values[0] != values[1]
    assert line.y[0] == pytest.approx(sum(values) / 2)


def test_the_end_of_training_is_each_seeds_own(tmp_path):
    """Seeds that stopped early at different epochs, and one that is not finished."""
    name = "glyphs/norm_softmax_memvir"
    histories = []
    for seed, last in enumerate((2, 3, 4)):
        points = {epoch: (0.5, 0.1) for epoch in range(1, last + 1)}
        early = {"stopped_early": last < 4, "num_epochs": 5}
        one = report_folders.history(seed, points, **early, finished=False)
        for epoch in one["epochs"]:
            epoch["memvir"] = {SHARE: epoch["epoch"] / 10}
        histories.append(one)
    report_folders.experiment(tmp_path, name, histories)
    report = build(load([tmp_path]))
    assert report.insights[0].last == {SHARE: pytest.approx(0.25)}
    assert report.insights[0].lines[SHARE].y[-1] == 0.4
    assert "0.25" in insight_table(report.insights)


def test_figure(folder, tmp_path):
    run([folder], tmp_path, Console(quiet=True))
    assert (tmp_path / "memvir.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "report.md").read_text()
    assert "(memvir.png)" in text
    row = text.split("## What MemVir saw")[1].splitlines()[4].split("|")
    one, other = (h["epochs"][-1]["memvir"] for h in histories(folder))
    for cell, name in zip(row[2:], RECORDED):
        decimals = 3 if name.startswith("cosine") else 2
        assert cell.strip() == f"{(one[name] + other[name]) / 2:.{decimals}f}"


def test_memvir_that_met_nothing_is_told(folder, tmp_path):
    assert not [n for n in build(load([folder])).notes if "no virtual classes" in n]
    experiment.run(tiny.config({"num_epochs_train": 1}), tmp_path, CPU)  # warm-up only
    assert [n for n in build(load([tmp_path])).notes if "no virtual classes" in n]


@pytest.mark.parametrize("memvir", [3, {"actual_loss": "high"}])
def test_damage_is_named(folder, tmp_path, memvir):
    root = tmp_path / "damaged"
    experiment.run(tiny.config({"num_epochs_train": 1}), root, CPU)
    path = root / "tiny/norm_softmax_memvir/seed0/history.json"
    data = json.loads(path.read_text())
    data["epochs"][0]["memvir"] = memvir
    path.write_text(json.dumps(data))
    with pytest.raises(ReportError, match="memvir|actual_loss"):
        load([root])


# Shares and differences

POINTS = {"softmax": (0.9, 0.02), "cosface": (0.2, -0.05), "arcface": (0.4, -0.01)}


def arm(loss, difference, share, memvir="_memvir", accuracy="single"):
    """A result, and what MemVir saw in it at the end of its trials."""
    name = f"glyphs/{loss}{memvir}"
    one = Result(
        experiment=name,
        label=loss + memvir,
        loss=f"{loss}+lr_1",
        memvir=True,
        accuracy=accuracy,
        seeds={},
        unfinished={},
        summaries={},
        baseline=loss,
        differences={"m": None if difference is None else summarize([difference])},
        better=frozenset(),
        published=(),
    )
    lines = {} if share is None else {SHARE: Line((1, 2), (0.0, 1.0))}
    return one, Insight(name, lines, {} if share is None else {SHARE: share})


def shares_of(*arms, selection="last"):
    results, seen = zip(*arms)
    return actual_shares([Section("glyphs", selection, results)], seen, "m")


def test_shares_at_the_end_against_differences():
    arms = [arm(loss, d, share) for loss, (share, d) in POINTS.items()]
    without = [arm("proxy_anchor", 0.1, None), arm("proxy_nca", None, 0.3)]
    folds = arm("softmax", 0.7, 0.1, "_memvir_2_2", "concatenated")
    assert shares_of(*arms[:2], *without, folds) == ()  # two arms are too few
    (found,) = shares_of(*arms, *without, folds)
    assert {p.loss for p in found.points} == set(POINTS)
    assert {(p.share, p.difference) for p in found.points} == set(POINTS.values())
    assert shares_of(*arms, selection="best_on_test") == ()


def test_shares_are_drawn_where_there_are_several(folder, tmp_path):
    run([folder], tmp_path, Console(quiet=True))
    assert not (tmp_path / "actual_shares.png").exists()
    found = shares_of(*(arm(f"l{k}", -k, k**2 / 20) for k in range(4)))
    actual_shares_figure.draw(found, "precision_at_1", tmp_path / "actual_shares.png")
    assert (tmp_path / "actual_shares.png").read_bytes()[:4] == b"\x89PNG"
