"""What MemVir saw in training: from a run through its history to the report."""

import json
import shutil

import pytest
import torch
from rich.console import Console

from benchmarks.protocol import experiment
from benchmarks.protocol.watcher import Watcher
from benchmarks.report import ReportError, figures, run
from benchmarks.report.build import build
from benchmarks.report.figures import SHARE
from benchmarks.report.notes import notes
from benchmarks.report.runs import read
from benchmarks.report.tables import insights, last_insights
from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax
from pml_memvir.readings import RECORDED

from . import report_folders, tiny

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
    memvir(torch.zeros(3, 4).requires_grad_(), torch.arange(3))
    for scales in (0.1, 0.3, 1.0), (0.7, 0.5):
        seen = []
        for scale in scales:
            memvir(torch.full((3, 4), scale).requires_grad_(), torch.arange(3))
            watcher.look({"metric_loss": memvir})
            seen.append(memvir.actual_loss)
        assert len(set(seen)) == len(scales)
        assert watcher.means()["actual_loss"] == pytest.approx(sum(seen) / len(seen))
    assert watcher.means() == {}


def test_means_over_seeds(folder):
    one, other = histories(folder)
    figure = figures.insights(build(read([folder])))
    shares, _, _ = figure.axes
    assert shares.get_title().startswith("tiny/norm_softmax_memvir\n")
    (line,) = [x for x in shares.lines if x.get_label().endswith("the own class")]
    assert list(line.get_xdata()) == [12, 18, 24]  # training steps
    values = [h["epochs"][1]["memvir"]["share_of_own_copies"] for h in (one, other)]
    assert values[0] != values[1]
    assert line.get_ydata()[0] == pytest.approx(sum(values) / 2)


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
    runs = read([tmp_path])
    assert last_insights(runs) == {(name, SHARE): pytest.approx(0.25)}
    (line,) = figures.insights(build(runs)).axes[0].lines
    assert line.get_ydata()[-1] == 0.4
    assert "0.25" in set(insights(runs).iloc[0])


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
    assert not [n for n in notes(build(read([folder]))) if "no virtual classes" in n]
    experiment.run(tiny.config({"num_epochs_train": 1}), tmp_path, CPU)  # warm-up only
    assert [n for n in notes(build(read([tmp_path]))) if "no virtual classes" in n]


@pytest.mark.parametrize("cosine, is_told", [(0.98, False), (0.995, True)])
def test_a_gap_in_which_hardly_anything_moves_is_told(
    folder, tmp_path, cosine, is_told
):
    root = tmp_path / "close"
    shutil.copytree(folder, root)
    for path in root.rglob("history.json"):
        data = json.loads(path.read_text())
        data["epochs"][-1]["memvir"]["cosine_to_newest"] = cosine
        path.write_text(json.dumps(data))
    found = [note for note in notes(build(read([root]))) if "hardly drift" in note]
    assert bool(found) == is_told


@pytest.mark.parametrize("memvir", [3, {"actual_loss": "high"}])
def test_damage_is_named(folder, tmp_path, memvir):
    root = tmp_path / "damaged"
    experiment.run(tiny.config({"num_epochs_train": 1}), root, CPU)
    path = root / "tiny/norm_softmax_memvir/seed0/history.json"
    data = json.loads(path.read_text())
    data["epochs"][0]["memvir"] = memvir
    path.write_text(json.dumps(data))
    with pytest.raises(ReportError, match="memvir|actual_loss"):
        read([root])


# Shares and differences


def arms(root, shares, plain=0.5):
    """Arms with MemVir, of a baseline each: by loss, share at the end and Recall@1."""
    for loss, (share, value) in shares.items():
        base = f"glyphs/{loss}"
        points = [(e, share if e == 2 else 0.0) for e in (1, 2)]
        report_folders.experiment(
            root, base, [report_folders.history(0, {1: (0.1, 0.1), 2: (plain, 0.1)})]
        )
        history = report_folders.history(0, {1: (0.1, 0.1), 2: (value, 0.1)})
        for entry, (_, seen) in zip(history["epochs"], points):
            entry["memvir"] = {} if share is None else {SHARE: seen}
        report_folders.experiment(root, f"{base}_memvir", [history], base)
    return build(read([root]), ["last", "best_on_test"])


def test_shares_at_the_end_against_differences(tmp_path):
    points = {"softmax": (0.9, 0.52), "cosface": (0.2, 0.45), "arcface": (0.4, 0.49)}
    few = arms(tmp_path / "few", dict(list(points.items())[:2]))
    assert figures.shares(few) is None  # two arms are too few
    made = arms(tmp_path / "all", {**points, "proxy_anchor": (None, 0.6)})
    (axes,) = figures.shares(made).axes  # not of best_on_test
    assert axes.get_title() == "glyphs, last epoch"
    drawn = {of.get_label(): of.get_offsets()[0] for of in axes.collections}
    assert {loss: tuple(at.round(6)) for loss, at in drawn.items()} == {
        "softmax": (0.9, 2.0),
        "cosface": (0.2, -5.0),
        "arcface": (0.4, -1.0),
    }


def test_shares_are_drawn_where_there_are_several(folder, tmp_path):
    run([folder], tmp_path, Console(quiet=True))
    assert not (tmp_path / "actual_shares.png").exists()
