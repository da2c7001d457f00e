"""Reports of experiments with folds: means over folds, and of all together."""

import pytest

from benchmarks.report.build import build
from benchmarks.report.runs import read

from .report_folders import (
    R1,
    experiment,
    history,
    numbers,
    records,
    report,
    rows,
    write,
)


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
    cell = "cub200/softmax", R1
    separated = numbers(result, *cell, "best_on_validation", "separated")[0]
    # Of fold 0 epoch 1 is selected, of fold 1 epoch 2: (0.5 + 0.1) / 2, (0.6 + 0.1) / 2
    assert separated.mean == pytest.approx(0.325) and separated.n == 2
    together = numbers(result, *cell, "best_on_validation", "concatenated")[0]
    assert together.mean == 0.8
    assert numbers(result, *cell, "last", "concatenated")[0].mean == 0.2
    kinds = {selection: arms for _, selection, arms in result.sections()}
    assert kinds["best_on_test"] == [("cub200/softmax", "separated")]
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
        runs = read([tmp_path])
        result = build(runs.until(until) if until else runs)
        kinds = "separated", "concatenated"
        means = [numbers(result, "cub200/softmax", kind=kind)[0].mean for kind in kinds]
        assert means == ([0.5, None] if until == 1 else [0.7, 0.9])


@pytest.mark.parametrize("num_begun", [0, 1])
def test_arms_with_folds_can_be_reported_while_they_train(tmp_path, num_begun):
    """How many folds there will be, the config says."""
    both = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    one = history(0, {1: (0.9, 0.1)}, 0)
    base = "cub200/softmax"
    config = {
        "config": "split_manager: {ClassDisjointSplitManager: {num_training_sets: 2}}"
    }
    experiment(tmp_path, base, both, **config)
    experiment(tmp_path, f"{base}_memvir", [one][:num_begun], base, **config)
    result = build(read([tmp_path]))
    plain, memvir = (
        numbers(result, f"cub200/softmax{end}", kind="separated")[0]
        for end in ("", "_memvir")
    )
    assert plain.n == 1 and memvir.n == 0
    missing = result.runs.seeds.missing.get(("cub200/softmax_memvir", 0))
    assert missing == ("fold 1 not begun" if num_begun else None)


def test_a_seed_that_lacks_a_fold_is_unfinished(tmp_path):
    both = [history(0, {1: (0.5, 0.1)}, fold) for fold in (0, 1)]
    one = history(1, {1: (0.9, 0.1)}, 0)
    experiment(tmp_path, "cub200/softmax", [*both, one])
    result = build(read([tmp_path]))
    assert numbers(result, "cub200/softmax", kind="separated")[0].mean == 0.5
    assert result.runs.seeds.missing["cub200/softmax", 1] == "fold 1 not begun"
