"""Reports of experiments: selection, statistics, what is written."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

pytest.importorskip("omegaconf", reason="the report reads config.yaml with it")

from benchmarks.report import (  # noqa: E402
    ReportError,
    differences_figure,
    parse_baselines,
    run,
)
from benchmarks.report.arms import pair_up  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import load  # noqa: E402
from benchmarks.report.history import read_trial  # noqa: E402
from benchmarks.report.latex import as_latex, escape  # noqa: E402
from benchmarks.report.published import published  # noqa: E402
from benchmarks.report.selection import choose  # noqa: E402
from benchmarks.report.statistics import paired_difference, summarize  # noqa: E402

R1, RP, MAP = "precision_at_1", "r_precision", "mean_average_precision_at_r"


def history(seed, points, fold=None, num_epochs=None, **changes):
    """`points`: by epoch, (Recall@1, MAP@R) on the test split, then on validation."""
    epochs = []
    for epoch, values in points.items():
        splits = {"test": {R1: values[0], RP: values[0] / 2, MAP: values[1]}}
        if len(values) > 2:
            splits["val"] = {MAP: values[2]}
        epochs.append({"epoch": epoch, "step": 10 * epoch, "loss": 1.0})
        epochs[-1]["splits"] = splits
    last = max(points) if num_epochs is None else num_epochs
    return {
        "format": 1,
        "seed": seed,
        "fold": fold,
        "num_epochs": last,
        "finished": max(points) == last,
        "stopped_early": False,
        "primary_metric": MAP,
        "validation": "val" if "val" in epochs[-1]["splits"] else None,
        "test": "test",
        "epochs": epochs,
        **changes,
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def experiment(root, name, histories, baseline="null", source="official"):
    """An experiment folder of these histories."""
    folder = root / name
    folder.mkdir(parents=True)
    text = f"experiment_name: {name}\nbaseline: {baseline}\nsource: {source}\n"
    (folder / "config.yaml").write_text(text)
    versions = {"torch": "2.9.9", "pytorch-metric-learning": "2.9.0", "pml_memvir": "7"}
    environment = {"versions": versions, "git": {"revision": "ab" * 20, "dirty": True}}
    write(folder / "environment.json", environment)
    for one in histories:
        place = folder / f"seed{one['seed']}"
        if one["fold"] is not None:
            place /= f"fold{one['fold']}"
        write(place / "history.json", one)
    return folder


def of_values(*values):
    """A seed a value: Recall@1 of the one epoch; seeds from 0."""
    return [history(seed, {1: (v, v / 4)}) for seed, v in enumerate(values)]


def pair(root, plain, memvir, dataset="cars196", **kwargs):
    base = f"{dataset}/softmax"
    experiment(root, base, plain)
    experiment(root, f"{base}_memvir", memvir, base, **kwargs)
    return root


def report(root, tmp_path, **kwargs):
    """What `run` returns, and all that it has written and printed, by name."""
    console = Console(record=True, width=60, file=io.StringIO())
    output = tmp_path / "written"
    result = run([root], output, console, **kwargs)
    files = {p.name: p for p in output.iterdir()}
    text = {n: p.read_text() for n, p in files.items() if p.suffix != ".png"}
    return result, text | {"terminal": console.export_text()}, files


def rows(markdown, heading):
    """The cells of a section's table."""
    section = markdown.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def records(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


# Statistics


def test_t_interval_of_three_and_of_five():
    """Of 0.975, t is 4.303 with two degrees of freedom, and 2.776 with four."""
    three = summarize([0.1, 0.2, 0.3])
    assert (three.n, three.mean, three.sd) == (3, *map(pytest.approx, (0.2, 0.1)))
    half = 4.303 * 0.1 / 3**0.5
    assert three.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    five = summarize([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * 2.5**0.5 / 5**0.5
    assert five.sd == pytest.approx(2.5**0.5)
    assert five.interval == pytest.approx((3 - half, 3 + half), abs=1e-3)


def test_one_seed_has_no_spread():
    one = summarize([0.5])
    assert (one.n, one.mean, one.sd, one.interval) == (1, 0.5, None, None)
    assert not one.excludes_zero and summarize([]) is None


def test_differences_are_paired_by_seed():
    """Both arms vary widely, their difference hardly: 0.02, 0.03, 0.04."""
    base = {0: 0.1, 1: 0.5, 2: 0.9, 7: 0.0}
    delta = paired_difference({2: 0.94, 1: 0.53, 0: 0.12, 8: 1.0}, base)
    assert (delta.n, delta.mean, delta.sd) == (3, *map(pytest.approx, (0.03, 0.01)))
    assert delta.interval[0] == pytest.approx(0.03 - 4.303 * 0.01 / 3**0.5, abs=1e-5)
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


# Selection

POINTS = {  # (Recall@1, MAP@R, MAP@R on validation); epoch 0 is the best of all
    0: (0.99, 0.99, 0.99),
    5: (0.60, 0.30, 0.20),
    10: (0.70, 0.20, 0.40),
    15: (0.70, 0.30, 0.40),
    20: (0.50, 0.10, 0.10),
}


@pytest.mark.parametrize(
    "selection, metric, expected",
    [
        ("last", R1, (0.50, 20)),
        ("best_on_validation", R1, (0.70, 10)),
        ("best_on_validation", MAP, (0.20, 10)),
        ("best_on_test", R1, (0.70, 10)),
        ("best_on_test", MAP, (0.30, 5)),
        ("best_on_test", "absent", None),
        ("held_out", MAP, (0.40, 10)),
        ("held_out", R1, None),
    ],
)
def test_selection(tmp_path, selection, metric, expected):
    """Of ties the earliest; never epoch 0; validation decides by its own split."""
    path = write(tmp_path / "history.json", history(3, POINTS))
    chosen = choose(read_trial(path, 3, None), selection, metric)
    assert (chosen and (chosen.value, chosen.epoch)) == expected


def test_without_validation_nothing_is_selected_on_it(tmp_path):
    pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    sections = build(load([tmp_path / "a"])).sections
    assert [s.selection for s in sections] == ["last", "best_on_test"]
    with pytest.raises(ReportError, match="no arm has a validation split"):
        build(load([tmp_path / "a"]), ["best_on_validation"])


def test_one_arm_without_validation_is_listed_and_said(tmp_path):
    pair(tmp_path / "a", of_values(0.5), [history(0, {1: (0.6, 0.3, 0.3)})])
    _, text, _ = report(tmp_path / "a", tmp_path)
    table = rows(text["report.md"], "cars196, selection: best_on_validation")
    assert ["seed 0", "-", "-", "-", "-"] in table
    assert ["seed 0", "1", "60.00", "30.00", "30.00"] in table
    assert "cars196/softmax has no validation split" in text["report.md"]


# Reports


def test_the_table_by_hand(tmp_path):
    root = tmp_path / "a"
    memvir = of_values(0.82, 0.83, 0.84)
    pair(root, of_values(0.80, 0.80, 0.80), memvir, source="ours")
    _, text, _ = report(root, tmp_path)
    table = rows(text["report.md"], "cars196, selection: last")
    head = ["mean", "n", "Recall@1", "R-Precision", "MAP@R", "Recall@1 diff."]
    assert table[0] == head
    assert table[2][:3] == ["softmax", "3", "80.00"] and table[2][-1] == ""
    assert table[3][:3] == ["softmax_memvir", "3", "83.00"]
    assert table[3][-1] == "+3.00 [+0.52, +5.48]"
    table = table[4:]
    assert table[0] == ["", "epoch", "Recall@1", "R-Precision", "MAP@R"]
    memvir = [
        row[:3] for row in table[table.index(["**softmax_memvir**"] + 4 * [""]) :]
    ]
    assert memvir == [
        ["**softmax_memvir**", "", ""],
        ["seed 0", "1", "82.00"],
        ["seed 1", "1", "83.00"],
        ["seed 2", "1", "84.00"],
        ["mean (n = 3)", "", "83.00"],
        ["sd", "", "1.00"],
        ["95% interval", "", "[80.52, 85.48]"],
        ["minus softmax (n = 3)", "", "+3.00"],
        ["its sd", "", "1.00"],
        ["its 95% interval", "", "[+0.52, +5.48]"],
        ["published, Table 4", "", "86.5"],
        ["its difference", "", "+5.0"],
    ]
    assert "ours, not official: cars196/softmax_memvir.\n" in text["report.md"]
    best = rows(text["report.md"], "cars196, selection: best_on_test")
    assert best[7][2] == "80.00 (1)"


def test_the_protocol_is_in_each_file(tmp_path):
    pair(tmp_path / "a", of_values(0.5, 0.6), of_values(0.6, 0.6))
    _, text, files = report(tmp_path / "a", tmp_path)
    tables = {"report.md", "report.csv", "summary.csv", "report.tex"}
    assert set(files) == {*tables, "curves.png", "differences.png"}
    for name in ("report.md", "report.csv", "summary.csv", "report.tex", "terminal"):
        words = re.sub(r"[\s#%]+", " ", text[name])
        assert "Data set: cars196; arms: 2; seeds: 2 finished (0, 1)" in words, name
        assert "picked on the test set: what the official code reports" in words, name
        assert "torch 2.9.9, pytorch-metric-learning 2.9.0, pml-memvir 7" in words, name
        assert "revision abababababab with changes" in words, name


def test_the_terminal_shows_whole_tables_of_100_columns(tmp_path):
    """Whatever its width, here 60, and however long the paper's names are."""
    root, base = tmp_path / "a", "cars196/proxy_anchor"
    experiment(root, base, of_values(0.5, 0.9))
    experiment(root, f"{base}_memvir", of_values(0.1, 0.99), base)
    _, text, _ = report(root, tmp_path)
    lines = [x for x in text["terminal"].splitlines() if x.startswith("|")]
    assert lines and max(map(len, lines)) <= 100 and "…" not in text["terminal"]
    assert set(lines) == {
        x for x in text["report.md"].splitlines() if x.startswith("|")
    }


def test_overlays_that_all_arms_share_are_said_once(tmp_path):
    base, more = "cub200/norm_softmax", "+cross_validation"
    folds = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    experiment(tmp_path / "a", base + more, folds)
    experiment(tmp_path / "a", f"{base}_memvir{more}", folds, base + more)
    _, text, _ = report(tmp_path / "a", tmp_path, selections=["last"])
    assert "\nAll arms: +cross_validation\n" in text["report.md"]
    table = rows(text["report.md"], "cub200, selection: last")
    labels = [row[0] for row in table]
    assert (
        "**norm_softmax_memvir**" in labels and "minus norm_softmax (n = 1)" in labels
    )
    assert labels.count("*separated*") == labels.count("*concatenated*") == 2
    assert max(map(len, text["report.md"].splitlines())) <= 100
    long = {(r["experiment"], r["loss"]) for r in records(text["report.csv"])}
    assert (f"{base}_memvir{more}", f"norm_softmax{more}") in long


def test_an_unfinished_seed_is_listed_and_in_no_mean(tmp_path):
    unfinished = history(1, {1: (0.9, 0.9), 4: (0.9, 0.9)}, num_epochs=9)
    whole = history(0, {1: (0.1, 0.1), 9: (0.5, 0.2)})
    pair(tmp_path / "a", [whole, unfinished], [whole])
    (tmp_path / "a/cars196/softmax/seed2").mkdir()
    result, text, _ = report(tmp_path / "a", tmp_path)
    summary = result.sections[0].results[0].summaries[R1]
    assert (summary.n, summary.mean) == (1, 0.5)
    table = rows(text["report.md"], "cars196, selection: last")
    assert ["seed 1, unfinished", "", "-", "-", "-"] in table
    words = " ".join(text["report.md"].split())
    assert "seed 1 is unfinished and in no mean: at epoch 4 of 9." in words
    assert "seed 2 is unfinished and in no mean: not begun." in words
    assert {r["seed"] for r in records(text["report.csv"])} == {"0"}
    assert ["sd", "", "-", "-", "-"] in table and "One finished seed" in words


def test_a_trial_that_stopped_early_counts(tmp_path):
    early = history(0, {4: (0.7, 0.3)}, num_epochs=9, stopped_early=True)
    experiment(tmp_path / "a", "sop/softmax", [early])
    result = build(load([tmp_path]))
    assert result.sections[0].results[0].summaries[R1].mean == 0.7
    assert any(
        "sop/softmax, seed 0 stopped early: at epoch 4 of 9, on test accuracy" in note
        for note in result.notes
    )


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


def test_unpaired_seeds_are_named(tmp_path):
    three = of_values(0.5, 0.6, 0.7)
    pair(tmp_path / "a", three[:2], [three[0], three[2]])
    result = build(load([tmp_path]))
    memvir = result.sections[0].results[1]
    assert memvir.differences[R1].n == 1 and memvir.summaries[R1].n == 2
    notes = " ".join(result.notes)
    assert "leaves out seeds that only softmax has finished: 1." in notes
    assert "leaves out seeds that only softmax_memvir has finished: 2." in notes


def test_folds(tmp_path):
    """Seeds are averaged, not folds; epochs of folds differ."""
    root = tmp_path / "a"
    values = {0: (0.5, 0.7), 1: (0.6, 1.0)}
    histories = []
    for seed, folds in values.items():
        for fold, value in enumerate(folds):
            points = {1: (value, 0.1, 0.9 - fold), 2: (0.1, 0.1, 0.5)}
            points = {e: v[:2] + (max(v[2], 0.0),) for e, v in points.items()}
            histories.append(history(seed, points, fold))
    folder = experiment(root, "cub200/softmax", histories)
    for seed in values:
        together = {"format": 1, "last": {R1: 0.2}, "best_on_validation": {R1: 0.8}}
        write(folder / f"seed{seed}" / "concatenated.json", together)
    result, text, _ = report(root, tmp_path)
    sections = {s.selection: s.results for s in result.sections}
    separated, concatenated = sections["best_on_validation"]
    # Of fold 0 epoch 1 is selected, of fold 1 epoch 2: (0.5 + 0.1) / 2, (0.6 + 0.1) / 2
    assert separated.summaries[R1].mean == pytest.approx(0.325)
    assert separated.summaries[R1].n == 2
    assert separated.seeds[0][R1].epochs == (1, 2)
    assert concatenated.summaries[R1].mean == 0.8
    assert sections["last"][1].summaries[R1].mean == 0.2
    assert [r.accuracy for r in sections["best_on_test"]] == ["separated"]
    table = rows(text["report.md"], "cub200, selection: best_on_validation")
    assert ["seed 0", "1-2", "30.00", "15.00", "10.00"] in table
    folds = [(r["seed"], r["fold"]) for r in records(text["report.csv"])]
    assert folds.count(("1", "1")) == 9 and folds.count(("1", "concatenated")) == 2


def test_a_seed_that_lacks_a_fold_is_unfinished(tmp_path):
    both = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    one = history(1, {1: (0.9, 0.1)}, 0)
    experiment(tmp_path, "cub200/softmax", [*both, one])
    result = build(load([tmp_path])).sections[0].results[0]
    assert result.summaries[R1].mean == 0.5
    assert result.unfinished == {1: "fold 1 not begun"}


def test_baselines(tmp_path):
    pair(tmp_path, of_values(0.5), of_values(0.6))
    arms = experiment(tmp_path, "cars196/cosface", of_values(0.4)).parent
    names = parse_baselines(["cars196/softmax_memvir=cars196/cosface"])
    result = build(load([arms]), baselines=names).sections[0].results
    assert {r.label: r.baseline for r in result} == {
        "softmax": None,
        "softmax_memvir": "cosface",
        "cosface": None,
    }
    with pytest.raises(ReportError, match="there is no experiment 'sop/softmax'"):
        pair_up(load([arms]), {"cars196/softmax": "sop/softmax"})
    for wrong in ("a", "=b", "a="):
        with pytest.raises(ReportError, match="must be ARM=OTHER"):
            parse_baselines([wrong])
    alone = build(load([arms / "softmax_memvir"]))
    assert "its baseline cars196/softmax is not among" in " ".join(alone.notes)


def test_options_choose(tmp_path):
    pair(tmp_path, of_values(0.5), of_values(0.6))
    result = build(load([tmp_path]), ["last"], ["map@r"])
    assert result.metrics == (MAP,) and len(result.sections) == 1
    with pytest.raises(ReportError, match="metric must be one of .*, got 'f1'"):
        build(load([tmp_path]), metrics=["f1"])


# Files


def test_latex(tmp_path):
    """Bold is the better one of a pair, if the interval says so; here R@1 only."""
    plain = [history(s, {1: (0.80, v)}) for s, v in enumerate((0.3, 0.1))]
    better = [history(s, {1: (0.9 + s / 1e3, 0.2)}) for s in range(2)]
    pair(tmp_path / "a", plain, better)
    text = as_latex(build(load([tmp_path / "a"]), ["last"], [R1, MAP]))
    first, second = re.findall(r"^softmax.*$", text, re.M)
    assert first == r"softmax & 2 & $80.00 \pm 0.00$ & $20.00 \pm 14.14$ \\"
    bold = r"$\mathbf{90.05 \pm 0.07}$"
    assert second == rf"softmax\_memvir & 2 & {bold} & $20.00 \pm 0.00$ \\"
    assert r"95\% interval" in text and "excludes 0" in text
    assert escape(r"a_b%c&d\{~^") == (
        r"a\_b\%c\&d\textbackslash{}\{\textasciitilde{}\textasciicircum{}"
    )
    pair(tmp_path / "b", better, plain)
    losing = as_latex(build(load([tmp_path / "b"]), ["last"], [R1]))
    assert rf"softmax & 2 & {bold} \\" in losing and losing.count("mathbf") == 1


def test_csv(tmp_path):
    pair(tmp_path / "a", of_values(0.5, 0.5), of_values(0.6, 0.7))
    _, text, _ = report(tmp_path / "a", tmp_path, selections=["last"])
    head = "experiment,dataset,loss,memvir,seed,fold,selection,epoch,metric,value"
    assert head in text["report.csv"].splitlines()
    long = records(text["report.csv"])
    assert len(long) == 2 * 2 * 3
    assert list(long[-3].values()) == [
        *("cars196/softmax_memvir", "cars196", "softmax", "True", "1", "", "last"),
        *("1", R1, "0.7"),
    ]
    row = records(text["summary.csv"])[3]
    assert float(row["mean"]) == pytest.approx(0.65) and row["n"] == "2"
    assert float(row["difference_mean"]) == pytest.approx(0.15)
    assert float(row["published_table4_difference"]) == pytest.approx(0.05)
    assert row["published_readme_mean"] == ""


def test_figures(tmp_path):
    """One a data set, and all together; with arms whose schedules differ in length."""
    short = [history(s, {e: (0.5 + e / 9, 0.1) for e in (0, 1, 2)}) for s in (0, 1)]
    long = [history(s, {e: (0.5 + e / 99, 0.1) for e in (0, 5, 40)}) for s in (0, 1)]
    pair(tmp_path / "a", short, long)
    pair(tmp_path / "a", short, short, "glyphs")
    result, _, files = report(tmp_path / "a", tmp_path)
    cars, glyphs = result.panels
    assert (cars.x_label, cars.logarithmic) == ("optimiser steps", True)
    assert (glyphs.x_label, glyphs.logarithmic) == ("epochs", False)
    assert [curve.plain for curve in cars.curves[R1]] == [True, False]
    assert cars.curves[R1][1].mean.x == (50, 400)  # not epoch 0
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
        curves = build(load([tmp_path])).panels[0].curves[R1]
        return {curve.label: (curve.color, curve.plain) for curve in curves}

    assert len(set(looks().values())) == 10
    assert looks()["arcface"][0] == looks()["arcface_memvir"][0]
    experiment(tmp_path, "a/arcface_memvir_n5", of_values(0.5), "a/arcface")
    assert len(set(looks().values())) == 11


def test_default_output_and_nothing_half_written(tmp_path, monkeypatch):
    pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    run([tmp_path / "a/cars196"], None, Console(file=io.StringIO()))
    folder = tmp_path / "a/cars196/report"
    old = (folder / "report.md").read_text()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        run([tmp_path / "a"], folder, Console(file=io.StringIO()))
    assert (folder / "report.md").read_text() == old
    assert not list(folder.glob("*.tmp"))


# Damage


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


# Published numbers


def test_published_numbers_are_complete():
    losses = ("softmax", "norm_softmax", "cosface", "arcface", "proxy_nca")
    arms = [f"{x}{y}" for x in (*losses, "proxy_anchor") for y in ("", "_memvir")]
    names = [f"{d}/{arm}" for d in ("cub200", "cars196", "sop") for arm in arms]
    found = {(n, p.source.key): p for n in names for p in published(n)}
    table4 = [p for (_, key), p in found.items() if key == "table4"]
    readme = [p for (_, key), p in found.items() if key == "readme"]
    assert [len(p.values) for p in table4] == 36 * [1]
    assert [len(p.values) for p in readme] == 4 * [3]
    # Sums of what is printed in the two sources: columns of Table 4, without and with.
    sums = [
        sum(found[n, "table4"].values[R1][0] for n in names[i : i + 12 : 2])
        for i in (0, 1, 12, 13, 24, 25)
    ]
    assert sums == pytest.approx([3.929, 4.065, 4.990, 5.196, 4.693, 4.760])
    sums = {R1: (3.3901, 0.0099), RP: (1.475, 0.0077), MAP: (1.0727, 0.0084)}
    for metric, (means, sds) in sums.items():
        assert sum(p.values[metric][0] for p in readme) == pytest.approx(means)
        assert sum(p.values[metric][1] for p in readme) == pytest.approx(sds)
    both = published("cars196/norm_softmax_memvir")
    assert [p.source.label for p in both] == ["README", "Table 4"]
    assert both[0].differences[MAP] == pytest.approx(0.0327)
    assert published("glyphs/softmax_memvir") == published("inshop/arcface") == ()


# What settings are picked by, and shorter trainings


def test_held_out_accuracies_are_shown_only_if_asked_for(tmp_path):
    """Without the test set's, and without published numbers, which are of that."""
    pair(tmp_path / "a", [history(0, POINTS)], [history(0, POINTS)])
    usual, asked = build(load([tmp_path / "a"])), ["held_out"]
    assert "held_out" not in [section.selection for section in usual.sections]
    _, text, _ = report(tmp_path / "a", tmp_path, selections=asked, metrics=["MAP@R"])
    table = rows(text["report.md"], "cars196, selection: held_out")
    assert ["seed 0", "10", "40.00"] in table
    assert not any("published" in row[0] for row in table)
    assert "best_on_test" not in text["report.md"]


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


def test_until_must_be_an_evaluation(tmp_path):
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS)])
    with pytest.raises(ReportError, match="no evaluation at epoch 7; there are 5, 10"):
        load([tmp_path / "a"], until=7)


def test_curves_are_of_what_is_shown(tmp_path):
    """Not of the test split, where nothing else is."""
    experiment(tmp_path / "a", "glyphs/softmax", [history(0, POINTS)])
    for selections, split in ((["held_out"], 2), ([], 1)):
        (panels,) = build(load([tmp_path / "a"]), selections, ["MAP@R"]).panels
        (curve,) = panels.curves[MAP]
        assert curve.mean.y == tuple(POINTS[e][split] for e in (5, 10, 15, 20))
        assert panels.about.startswith("Of held-out classes") is bool(selections)


def test_a_selection_has_one_color_in_all_data_sets(tmp_path):
    """Also where one of them has no validation split, and so fewer selections."""
    with_split = [history(seed, {1: (0.5 + seed / 9, 0.2, 0.3)}) for seed in (0, 1)]
    root = pair(tmp_path / "a", with_split, with_split)
    pair(root, of_values(0.5, 0.6), of_values(0.7, 0.7), dataset="sop")
    report_ = build(load([root]), metrics=["Recall@1"])
    figure = differences_figure.figure(report_.sections, report_.metrics)
    by_label = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            by_label.setdefault(label, set()).add(handle[0].get_color())
    assert set(by_label) == {"last", "best_on_validation", "best_on_test"}
    assert all(len(colors) == 1 for colors in by_label.values())
    assert len(set.union(*by_label.values())) == 3


def test_figures_of_an_earlier_report_go(tmp_path):
    root = pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    report(root, tmp_path)
    (tmp_path / "written" / "notes.png").write_bytes(b"not ours")
    _, _, files = report(root / "cars196" / "softmax", tmp_path)
    assert "notes.png" in files and "differences.png" not in files
