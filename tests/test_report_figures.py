"""What a report draws."""

import numpy as np
from PIL import Image

from benchmarks.report import figures
from benchmarks.report.build import build
from benchmarks.report.runs import read
from benchmarks.report.selection import LABELS, USUAL

from .report_folders import (
    POINTS,
    experiment,
    history,
    of_values,
    pair,
    report,
)


def test_figures(tmp_path):
    """One a data set, and all together; with arms whose schedules differ in length."""
    short = [history(s, {e: (0.5 + e / 9, 0.1) for e in (0, 1, 2)}) for s in (0, 1)]
    long = [history(s, {e: (0.5 + e / 99, 0.1) for e in (0, 5, 40)}) for s in (0, 1)]
    pair(tmp_path / "a", short, long)
    pair(tmp_path / "a", short, short, "glyphs")
    result, _, files = report(tmp_path / "a", tmp_path)
    cars, *_ = figures.curves(result, ["cars196"]).axes
    glyphs, *_ = figures.curves(result, ["glyphs"]).axes
    assert (cars.get_xlabel(), cars.get_xscale()) == ("optimiser steps", "log")
    assert (glyphs.get_xlabel(), glyphs.get_xscale()) == ("epochs", "linear")
    means = [line for line in cars.lines if line.get_linewidth() > 1]
    assert [line.get_linestyle() for line in means] == ["--", "-"]
    assert list(means[1].get_xdata()) == [50, 400]  # not epoch 0
    for name in ("curves.png", "curves_cars196.png", "curves_glyphs.png"):
        with Image.open(files[name]) as image:
            assert image.format == "PNG" and min(image.size) > 400
            assert len(np.unique(image.convert("L"))) > 20


def test_twelve_arms_and_ablations_can_be_told_apart(tmp_path):
    losses = ("softmax", "norm_softmax", "cosface", "arcface", "proxy_nca")
    for loss in losses:
        experiment(tmp_path, f"a/{loss}", of_values(0.5))
        experiment(tmp_path, f"a/{loss}_memvir", of_values(0.5), f"a/{loss}")

    def looks():
        figure = figures.curves(build(read([tmp_path])), ["a"])
        labels = [t.get_text() for t in figure.legends[0].get_texts()]
        panels = [a for a in figure.axes if a.get_title().endswith("Recall@1")]
        lines = [line for axes in panels for line in axes.lines]
        means = [line for line in lines if line.get_linewidth() > 1]
        return {
            label: (line.get_color(), line.get_linestyle())
            for label, line in zip(labels, means, strict=True)
        }

    assert len(set(looks().values())) == 10
    assert looks()["arcface"][0] == looks()["arcface_memvir"][0]
    experiment(tmp_path, "a/arcface_memvir_n5", of_values(0.5), "a/arcface")
    assert len(set(looks().values())) == 11


def test_many_losses_have_panels_of_their_own(tmp_path):
    """And no arm of another data set is left out."""

    def panels_drawn():
        made = build(read([tmp_path]), metrics=["MAP@R", "Recall@1"])
        datasets = sorted(set(made.runs.experiments.dataset))
        return [a for a in figures.curves(made, datasets).axes if len(a.lines)]

    def titles():
        return [a.get_title().split("\n")[-1] for a in panels_drawn()]

    losses = ["softmax", "cosface", "arcface"]
    for loss in losses:
        pair(tmp_path, of_values(0.5), of_values(0.6), "glyphs", loss)
    assert titles() == ["MAP@R", "Recall@1"]
    pair(tmp_path, of_values(0.5), of_values(0.6), "glyphs", "proxy_nca")
    experiment(tmp_path, "emoji/proxy_nca", of_values(0.5))
    names = [*losses, "proxy_nca"]
    assert titles() == [
        f"{loss}, {metric}"
        for of_dataset in (["proxy_nca"], names)
        for metric in ("MAP@R", "Recall@1")
        for loss in of_dataset
    ]
    drawn = panels_drawn()
    seed_and_mean = 2  # lines of an arm
    one_arm, pair_of_arms = seed_and_mean, 2 * seed_and_mean
    assert [len(a.lines) for a in drawn] == 2 * [one_arm] + 8 * [pair_of_arms]
    one, other = drawn[2:4]
    assert one.get_shared_y_axes().joined(one, other)


def test_plain_losses_share_a_panel_however_many(tmp_path):
    for loss in ("softmax", "cosface", "arcface", "proxy_nca"):
        experiment(tmp_path, f"glyphs/{loss}", of_values(0.5))
    made = build(read([tmp_path]), metrics=["MAP@R"])
    (axes,) = figures.curves(made, ["glyphs"]).axes
    assert axes.get_title() == "MAP@R" and len(axes.lines) == 8


def test_differences_are_drawn_where_there_are_baselines(tmp_path):
    root = pair(tmp_path / "a", of_values(0.5, 0.6), of_values(0.6, 0.8))
    pair(root, of_values(0.5), of_values(0.7), dataset="sop")  # no interval
    _, text, files = report(root, tmp_path)
    image = np.asarray(Image.open(files["differences.png"]).convert("RGB"))
    blue = (np.abs(image.astype(int) - (31, 119, 180)).sum(-1) < 30).sum()
    assert blue > 100  # the points and bars of the first selection
    assert "![differences.png](differences.png)" in text["report.md"]


def test_nothing_is_drawn_where_nothing_is_compared(tmp_path):
    experiment(tmp_path / "a", "glyphs/softmax", of_values(0.5))
    _, _, files = report(tmp_path / "a", tmp_path)
    assert "differences.png" not in files


def test_curves_are_of_what_is_shown(tmp_path):
    """Not of the test split, where nothing else is."""
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS)])
    for selections, split in ((["held_out"], 2), ([], 1)):
        made = build(read([tmp_path / "a"]), selections, ["MAP@R"])
        (axes,) = figures.curves(made, ["glyphs"]).axes
        values = [100 * POINTS[epoch][split] for epoch in (5, 10, 15, 20)]
        assert list(axes.lines[-1].get_ydata()) == values
        title = axes.figure.get_suptitle()
        assert title.startswith("Of held-out classes") is bool(selections)


def test_a_selection_has_one_color_in_all_data_sets(tmp_path):
    """Also where one of them has no validation split, and so fewer selections."""
    with_split = [history(seed, {1: (0.5 + seed / 9, 0.2, 0.3)}) for seed in (0, 1)]
    root = pair(tmp_path / "a", with_split, with_split)
    pair(root, of_values(0.5, 0.6), of_values(0.7, 0.7), dataset="sop")
    report_ = build(read([root]), metrics=["Recall@1"])
    figure = figures.differences(report_)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(labels) == {LABELS[name] for name in USUAL}
    cars, sop = ([c[0].get_color() for c in a.containers] for a in figure.axes)
    assert len(set(cars)) == 3 and sop == [cars[0], cars[2]]


def test_figures_of_an_earlier_report_go(tmp_path):
    root = pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    report(root, tmp_path)
    (tmp_path / "written" / "notes.png").write_bytes(b"not ours")
    _, _, files = report(root / "cars196" / "softmax", tmp_path)
    assert "notes.png" in files and "differences.png" not in files
