"""Reports of experiments: arms, selections, means and differences in their tables."""

import pytest

pytest.importorskip("omegaconf", reason="the report reads config.yaml with it")

from benchmarks.report import ReportError, parse_baselines  # noqa: E402
from benchmarks.report.arms import pair_up  # noqa: E402
from benchmarks.report.build import build  # noqa: E402
from benchmarks.report.experiments import load  # noqa: E402

from .report_folders import (  # noqa: E402
    MAP,
    POINTS,
    R1,
    experiment,
    history,
    of_values,
    pair,
    records,
    report,
    rows,
    write,
)


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


def test_what_is_made_of_the_last_models_is_not_of_earlier_epochs(tmp_path):
    points = {1: (0.5, 0.1), 2: (0.7, 0.2)}
    histories = [history(0, points, fold) for fold in (0, 1)]
    folder = experiment(tmp_path, "cub200/softmax", histories)
    write(folder / "seed0/concatenated.json", {"format": 1, "last": {R1: 0.9}})
    for until in (1, 2, None):
        sections = {s.selection: s for s in build(load([tmp_path], until)).sections}
        separated, concatenated = sections["last"].results
        if until == 1:
            assert separated.summaries[R1].mean == 0.5
            assert concatenated.summaries[R1] is None
        else:
            assert separated.summaries[R1].mean == 0.7
            assert concatenated.summaries[R1].mean == 0.9


@pytest.mark.parametrize("num_begun", [0, 1])
def test_arms_with_folds_can_be_reported_while_they_train(tmp_path, num_begun):
    """How many folds there will be, the config says."""
    both = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    one = history(0, {1: (0.9, 0.1)}, 0)
    folders = [
        experiment(tmp_path, "cub200/softmax", both),
        experiment(
            tmp_path, "cub200/softmax_memvir", [one][:num_begun], "cub200/softmax"
        ),
    ]
    for folder in folders:
        with (folder / "config.yaml").open("a") as file:
            file.write(
                "split_manager: {ClassDisjointSplitManager: {num_training_sets: 2}}"
            )
    results = build(load([tmp_path])).sections[0].results
    plain, memvir = (one for one in results if one.accuracy == "separated")
    assert plain.summaries[R1].n == 1 and memvir.summaries[R1] is None
    assert memvir.unfinished == ({0: "fold 1 not begun"} if num_begun else {})


def test_a_seed_that_lacks_a_fold_is_unfinished(tmp_path):
    both = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    one = history(1, {1: (0.9, 0.1)}, 0)
    experiment(tmp_path, "cub200/softmax", [*both, one])
    result = build(load([tmp_path])).sections[0].results[0]
    assert result.summaries[R1].mean == 0.5
    assert result.unfinished == {1: "fold 1 not begun"}


def test_a_figure_has_the_versions_of_its_own_arms(tmp_path):
    for name, revision in (("cub200/softmax", "ab" * 20), ("sop/softmax", "cd" * 20)):
        folder = experiment(tmp_path, name, of_values(0.5))
        write(folder / "environment.json", {"git": {"revision": revision}})
    texts = [panels.versions for panels in build(load([tmp_path])).panels]
    assert texts == [
        f"Versions: revision {v}." for v in ("abababababab", "cdcdcdcdcdcd")
    ]


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
