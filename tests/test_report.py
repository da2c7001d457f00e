"""Reports of experiments: arms, selections, means and differences in their tables."""

import pytest

from benchmarks.report import ReportError, parse_baselines
from benchmarks.report.build import build, pair_up
from benchmarks.report.notes import notes, versions
from benchmarks.report.runs import read
from benchmarks.report.tables import summary

from .report_folders import (
    MAP,
    POINTS,
    R1,
    experiment,
    history,
    numbers,
    of_values,
    pair,
    records,
    report,
    rows,
    write,
)


def test_without_validation_nothing_is_selected_on_it(tmp_path):
    pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    assert build(read([tmp_path / "a"])).selections == ("last", "best_on_test")
    with pytest.raises(ReportError, match="no arm has a validation split"):
        build(read([tmp_path / "a"]), ["best_on_validation"])


def test_one_arm_without_validation_is_listed_and_said(tmp_path):
    pair(tmp_path / "a", of_values(0.5), [history(0, {1: (0.6, 0.3, 0.3)})])
    _, text, _ = report(tmp_path / "a", tmp_path)
    table = rows(text["report.md"], "cars196, selection: best_on_validation")
    assert ["seed 0", "-", "-", "-", "-"] in table
    assert ["seed 0", "1", "60.00", "30.00", "30.00"] in table
    assert "cars196/softmax has no validation split" in text["report.md"]


def test_the_table_by_hand(tmp_path):
    root = tmp_path / "a"
    memvir = of_values(0.82, 0.83, 0.84)
    pair(root, of_values(0.80, 0.80, 0.80), memvir, source="ours")
    _, text, _ = report(root, tmp_path)
    table = rows(text["report.md"], "cars196, selection: last")
    # The primary metric's difference first, whatever metric is shown first.
    head = ["mean", "MAP@R diff.", "n", "Recall@1", "R-Precision", "MAP@R"]
    assert table[0] == head
    assert table[2][:4] == ["softmax", "", "3", "80.00"]
    assert table[3][:4] == ["softmax_memvir", "+0.75 [+0.13, +1.37]", "3", "83.00"]
    table = table[4:]
    assert table[0] == ["", "epoch", "Recall@1", "R-Precision", "MAP@R"]
    memvir = [
        row[:3] for row in table[table.index(["**softmax_memvir**"] + 4 * [""]) :]
    ]
    assert memvir == [
        ["**softmax_memvir**", "", ""],
        ["minus softmax (n = 3)", "", "+3.00"],
        ["its 95% interval", "", "[+0.52, +5.48]"],
        ["its sd", "", "1.00"],
        ["mean (n = 3)", "", "83.00"],
        ["95% interval", "", "[80.52, 85.48]"],
        ["sd", "", "1.00"],
        ["seed 0", "1", "82.00"],
        ["seed 1", "1", "83.00"],
        ["seed 2", "1", "84.00"],
        ["published, Table 4", "", "86.5"],
        ["its difference", "", "+5.0"],
    ]
    assert "authors: cars196/softmax.\n" in text["report.md"]
    best = rows(text["report.md"], "cars196, selection: best_on_test")
    assert ["seed 0", "", "80.00 (1)"] in [row[:3] for row in best]


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
    assert labels.count("separated") == labels.count("concatenated") == 2
    assert max(map(len, text["report.md"].splitlines())) <= 100
    long = {(r["experiment"], r["loss"]) for r in records(text["report.csv"])}
    assert (f"{base}_memvir{more}", f"norm_softmax{more}") in long


def test_an_unfinished_seed_is_listed_and_in_no_mean(tmp_path):
    unfinished = history(1, {1: (0.9, 0.9), 4: (0.9, 0.9)}, num_epochs=9)
    whole = history(0, {1: (0.1, 0.1), 9: (0.5, 0.2)})
    pair(tmp_path / "a", [whole, unfinished], [whole])
    (tmp_path / "a/cars196/softmax/seed2").mkdir()
    result, text, _ = report(tmp_path / "a", tmp_path)
    assert numbers(result, "cars196/softmax")[0][:2] == (1, 0.5)
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
    result = build(read([tmp_path]))
    assert numbers(result, "sop/softmax")[0].mean == 0.7
    assert any(
        "sop/softmax, seed 0 stopped early: at epoch 4 of 9, on test accuracy" in note
        for note in notes(result)
    )


def test_unpaired_seeds_are_named(tmp_path):
    three = of_values(0.5, 0.6, 0.7)
    pair(tmp_path / "a", three[:2], [three[0], three[2]])
    result = build(read([tmp_path]))
    own, difference = numbers(result, "cars196/softmax_memvir")
    assert difference.n == 1 and own.n == 2
    row = summary(result, "cars196", "last", [("cars196/softmax_memvir", "single")])
    assert row["MAP@R diff."][0].endswith(", of 1") and row["n"][0] == "2"
    texts = " ".join(notes(result))
    assert "leaves out seeds that only softmax has finished: 1." in texts
    assert "leaves out seeds that only softmax_memvir has finished: 2." in texts


def test_what_else_differs_between_the_arms_of_a_pair_is_told(tmp_path):
    root, value = tmp_path / "a", of_values(0.5)
    same = "dataset: {Cars196: {root: %s}}\n"
    experiment(root, "cars196/softmax", value, config=same % "here")
    for arm, more in (
        ("memvir", ""),
        ("memvir_m", "sampler: {MPerClassSampler: {}}\npatience: 0\n"),
    ):
        name = f"cars196/softmax_{arm}"
        config = same % "elsewhere" + more
        experiment(root, name, value, "cars196/softmax", config=config)
    found = [
        note for note in notes(build(read([root]))) if "more than the loss" in note
    ]
    assert found == [
        "cars196/softmax_memvir_m and cars196/softmax differ in more than the loss: "
        "sampler, patience."
    ]


def test_a_figure_has_the_versions_of_its_own_arms(tmp_path):
    for name, revision in (("cub200/softmax", "ab" * 20), ("sop/softmax", "cd" * 20)):
        folder = experiment(tmp_path, name, of_values(0.5))
        write(folder / "environment.json", {"git": {"revision": revision}})
    table = read([tmp_path]).experiments
    assert [versions(arms) for _, arms in table.groupby("dataset")] == [
        f"Versions: revision {v}." for v in ("abababababab", "cdcdcdcdcdcd")
    ]


def test_baselines(tmp_path):
    pair(tmp_path, of_values(0.5), of_values(0.6))
    arms = experiment(tmp_path, "cars196/cosface", of_values(0.4)).parent
    names = parse_baselines(["cars196/softmax_memvir=cars196/cosface"])
    result = build(read([arms]), baselines=names)
    assert result.baselines == {"cars196/softmax_memvir": "cars196/cosface"}
    with pytest.raises(ReportError, match="there is no experiment 'sop/softmax'"):
        pair_up(read([arms]), {"cars196/softmax": "sop/softmax"})
    for wrong in ("a", "=b", "a="):
        with pytest.raises(ReportError, match="must be ARM=OTHER"):
            parse_baselines([wrong])
    alone = build(read([arms / "softmax_memvir"]))
    assert "its baseline cars196/softmax is not among" in " ".join(notes(alone))


def test_options_choose(tmp_path):
    pair(tmp_path, of_values(0.5), of_values(0.6))
    result = build(read([tmp_path]), ["last"], ["map@r"])
    assert result.metrics == (MAP,) and len(list(result.sections())) == 1
    with pytest.raises(ReportError, match="metric must be one of .*, got 'f1'"):
        build(read([tmp_path]), metrics=["f1"])


def test_held_out_accuracies_are_shown_only_if_asked_for(tmp_path):
    """Without the test set's, and without published numbers, which are of that."""
    pair(tmp_path / "a", [history(0, POINTS)], [history(0, POINTS)])
    usual, asked = build(read([tmp_path / "a"])), ["held_out"]
    assert "held_out" not in usual.selections
    _, text, _ = report(tmp_path / "a", tmp_path, selections=asked, metrics=["MAP@R"])
    table = rows(text["report.md"], "cars196, selection: held_out")
    assert ["seed 0", "10", "40.00"] in table
    assert not any("published" in row[0] for row in table)
    assert "best_on_test" not in text["report.md"]


def test_what_the_untrained_network_can(tmp_path):
    """Of seeds that are finished; it is no epoch that counts."""
    histories = [history(s, {0: (0.1 + s / 5, 0.2), 1: (0.5, 0.4)}) for s in (0, 1)]
    unfinished = history(2, {0: (0.9, 0.9)}, num_epochs=1)
    experiment(tmp_path / "a", "glyphs/softmax", [*histories, unfinished])
    _, text, _ = report(tmp_path / "a", tmp_path)
    table = rows(text["report.md"], "glyphs, selection: last")
    assert ["untrained (n = 2)", "0", "20.00", "10.00", "20.00"] in table


def test_accuracies_that_are_no_numbers_are_a_result(tmp_path):
    """A diverged seed is in the mean, which is none then, and not left out."""
    plain = [history(s, {1: (0.5, 0.5, 0.5)}) for s in (0, 1)]
    nan = float("nan")
    diverged = [history(0, {1: (nan, nan, nan), 2: (nan, nan, nan)}), plain[1]]
    diverged[1] = history(1, {1: (0.6, 0.5, 0.5), 2: (0.7, nan, nan)})
    pair(tmp_path / "a", plain, diverged)
    result, text, files = report(tmp_path / "a", tmp_path)
    for selection in ("last", "best_on_validation", "best_on_test"):
        own, delta = numbers(result, "cars196/softmax_memvir", R1, selection)
        assert (own.n, delta.n) == (2, 2) and own.mean != own.mean
        assert not delta.excludes_zero
    table = rows(text["report.md"], "cars196, selection: best_on_validation")
    assert ["seed 0", "1", "nan", "nan", "nan"] in table
    assert ["seed 1", "1", "60.00", "30.00", "50.00"] in table
    assert "differences.png" in files
    assert "$nan" in text["report.tex"]


def test_only_what_is_asked_for(tmp_path):
    pair(tmp_path / "a", of_values(0.5), of_values(0.6))
    result, _, _ = report(tmp_path / "a", tmp_path, only=["*_memvir"])
    assert list(result.runs.experiments.index) == ["cars196/softmax_memvir"]
    with pytest.raises(ReportError, match="no experiment is called 'sop/"):
        report(tmp_path / "a", tmp_path, only=["sop/*"])
