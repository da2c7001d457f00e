"""The study in one table, worked out by hand."""

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from benchmarks.study import STAGES, Job, summary  # noqa: E402
from benchmarks.study.summary import summary_tables  # noqa: E402

from .study_runs import curve, table_of  # noqa: E402


def test_summary_has_a_line_a_data_set_and_loss(tmp_path, monkeypatch):
    """At their own settings, at equal rates as far as is known, the follow-ups."""
    assert summary_tables(tmp_path) == ""
    wide, few, controls = [], [], []
    for name, plain, own in (
        ("glyphs/softmax", 0.2, 0.25),
        ("glyphs/arcface", 0.3, 0.31),
        ("glyphs/cosface", 0.3, 0.32),
        ("emoji/proxy_nca", 0.5, 0.45),
    ):
        curve(Job("main", name, name, (), 0), tmp_path, [(0.3, plain), (0.2, 0.9)])
        arm = f"{name}_memvir"
        curve(Job("main", arm, arm, (), 0, name), tmp_path, [(0.3, own), (0.2, 0.9)])
    for name, control, far in (
        ("glyphs/softmax", 0.22, 0.27),
        ("emoji/proxy_nca", 0.42, None),
    ):
        controls.append(Job("controls", f"{name}+lr_1_1", name, (), 0, name))
        curve(controls[-1], tmp_path, [(0.3, control), (0.2, 0.9)])
        if far:
            arm = f"{name}_memvir_5_500"
            wide.append(Job("follow_up", arm, f"{name}_memvir", (), 0, name))
            curve(wide[-1], tmp_path, [(0.3, far), (0.2, 0.9)])
    for name, baseline, value in (
        ("glyphs/cosface+100_classes", None, 0.1),
        ("glyphs/cosface_memvir+100_classes", "glyphs/cosface+100_classes", 0.19),
    ):
        preset = name.partition("+")[0]
        few.append(Job("follow_up", name, preset, (), 7, baseline))
        curve(few[-1], tmp_path, [(0.3, value), (0.2, 0.9)])
    of = {"glyphs": controls[:1], "emoji": controls[1:]}
    for dataset, jobs in of.items():
        monkeypatch.setitem(STAGES, f"{dataset}-controls", lambda r, j=jobs: iter(j))
    monkeypatch.setitem(STAGES, "glyphs-wide-gap", lambda results: iter(wide))
    monkeypatch.setitem(STAGES, "glyphs-few-classes", lambda results: iter(few))
    # ArcFace has equal rates, and CosFace's control is not run.
    others = {"glyphs": ["softmax", "cosface"], "emoji": ["proxy_nca"]}
    monkeypatch.setattr(
        summary,
        "with_other_rates",
        lambda dataset, _: [(f"{dataset}/{loss}", 0, 0) for loss in others[dataset]],
    )
    text = summary_tables(tmp_path)
    head, _, *rows = table_of(text, "summary, MAP@R")
    assert head[:3] == ["data set, loss", "own settings", "equal rates"]
    assert head[3:] == ["N = 5, M = 500", "100 training classes"]
    assert rows == [
        ["glyphs, softmax", "+5.00", "+3.00", "+7.00", "-"],
        ["glyphs, cosface", "+2.00", "-", "-", "+9.00"],
        ["glyphs, arcface", "+1.00", "+1.00", "-", "-"],
        ["emoji, proxy_nca", "-5.00", "+3.00", "-", "-"],
    ]
    recall = ["+2.50", "+1.50", "+3.50", "-"]
    assert table_of(text, "summary, Recall@1")[2][1:] == recall
