"""What reports rest on: statistics, selection of epochs, published numbers."""

import pandas as pd
import pytest

from benchmarks.report.published import published, sources
from benchmarks.report.runs import read
from benchmarks.report.selection import select
from benchmarks.report.statistics import paired_difference, summarize

from .report_folders import MAP, POINTS, R1, RP, experiment, history


def test_t_interval_of_three_and_of_five():
    """Of 0.975, t is 4.303 with two degrees of freedom, and 2.776 with four."""
    three = summarize([0.1, 0.2, 0.3])
    assert (three.n, three.mean, three.sd) == (3, *map(pytest.approx, (0.2, 0.1)))
    half = 4.303 * 0.1 / 3**0.5
    ends = 0.2 - half, 0.2 + half
    assert (three.low, three.high) == pytest.approx(ends, abs=1e-4)
    five = summarize([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * 2.5**0.5 / 5**0.5
    assert five.sd == pytest.approx(2.5**0.5)
    assert (five.low, five.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)


def test_one_seed_has_no_spread():
    one = summarize([0.5])
    assert tuple(one) == (1, 0.5, None, None, None)
    assert not one.excludes_zero and summarize([]).n == 0


def test_differences_are_paired_by_seed():
    """Both arms vary widely, their difference hardly: 0.02, 0.03, 0.04."""
    base = pd.Series({0: 0.1, 1: 0.5, 2: 0.9, 7: 0.0})
    delta = paired_difference(pd.Series({2: 0.94, 1: 0.53, 0: 0.12, 8: 1.0}), base)
    assert (delta.n, delta.mean, delta.sd) == (3, *map(pytest.approx, (0.03, 0.01)))
    assert delta.low == pytest.approx(0.03 - 4.303 * 0.01 / 3**0.5, abs=1e-5)
    assert paired_difference(base, pd.Series({3: 0.5})).n == 0


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
    experiment(tmp_path, "glyphs/softmax", [history(3, POINTS)])
    chosen = select(read([tmp_path]), selection, [metric])
    found = [(row.value, row.epoch) for row in chosen.itertuples()]
    assert found == ([] if expected is None else [expected])


def test_published_numbers_are_complete():
    losses = ("softmax", "norm_softmax", "cosface", "arcface", "proxy_nca")
    arms = [f"{x}{y}" for x in (*losses, "proxy_anchor") for y in ("", "_memvir")]
    names = [f"{d}/{arm}" for d in ("cub200", "cars196", "sop") for arm in arms]
    found = {(n, p.source): p for n in names for p in published(n)}
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
    assert [sources()[p.source]["label"] for p in both] == ["README", "Table 4"]
    assert both[0].differences[MAP] == pytest.approx(0.0327)
    assert published("glyphs/softmax_memvir") == published("inshop/arcface") == []
