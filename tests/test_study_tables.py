"""Tables that a study's file asks for, worked out by hand."""

import pytest

from benchmarks.study import StudyError

from .study_runs import (
    COMPARISON,
    STAGES,
    compared,
    finish,
    finished,
    made_of,
    page,
    study,
    table_of,
)


def cell(mean, half=12.71):
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def test_means_and_differences(tmp_path):
    text = made_of(compared(tmp_path, COMPARISON, "[MAP@R, Recall@1]"))
    assert text.startswith("# Tables\n\nHow it was.\n\n## all, MAP@R\n\n|")
    head, _, row = table_of(text, "all, MAP@R")
    assert head[:4] == ["loss", "pairs", "plain", "with MemVir"]
    assert row == [
        *("cosface", "2", "30.00", "45.00"),
        *map(cell, (15, 31, -5)),
        "+10.00 [+10.00, +10.00]",
    ]
    *_, row = table_of(text, "all, Recall@1")
    assert row[2:5] == ["15.00", "22.50", "+7.50 [+1.15, +13.85]"]


def test_quarters_of_the_training(tmp_path):
    """Over the seeds that got to its end, as if it had ended there."""
    made = compared(
        tmp_path,
        '{heading: q, head: loss, rows: [{of: main.memvir, label: "{loss}"}], '
        "quarters: true}",
    )
    head, _, row = table_of(made_of(made), "q")
    steps = [f"{thousands},000 steps" for thousands in (1, 2, 3, 4)]
    assert head == ["loss", "pairs", *steps]
    assert row == ["cosface", "2", *map(cell, (-9, -19, 15, 15))]


def test_rows_that_end_earlier(tmp_path):
    rows = (
        '[{of: main.memvir, label: "{loss}"}, '
        '{of: main.memvir, until: 2, label: "{loss} until 2"}]'
    )
    made = compared(
        tmp_path, f"{{heading: q, head: loss, rows: {rows}, columns: [{{head: gain}}]}}"
    )
    *_, whole, earlier = table_of(made_of(made), "q")
    assert whole == ["cosface", cell(15)] and earlier == ["cosface until 2", cell(-19)]


OTHERS = """
            heading: wide
            head: memory
            rows: [{each: {loss: [cosface]}, of: wide, label: "{memory.label}"}]
            columns:
              - {head: picked}
              - {head: to dense, minus: &dense "wide/glyphs/{loss}_memvir_5_100"}
              - {head: holds, show: holds, as: *dense}
              - {head: corrected, show: holds, as: *dense, comparisons: 1000}
              - {head: first, any: [{minus: "wide/none"}, {arm: "main/glyphs/{loss}"}]}
              - {head: only, only: memv}
              - head: MB
                show: megabytes
                num_classes: 10
                embedding_size: 4
                batch_size: 8
              - {head: newest, show: seen, name: cosine_to_newest, decimals: 3}
              - {head: "N", text: "{memory.num_steps}"}
              - {head: early, show: seen, name: cosine_to_newest, until: 1}
"""


def test_other_arms_and_what_holds(tmp_path):
    """The cheaper memory is ahead of plain, and as good as the dense one."""
    made = study(tmp_path, STAGES + page(OTHERS.strip()))
    one = {f"cosface{end}": v for end, v in (("", 0.1), ("_memvir_5_100", 0.2))}
    values = {(n, s): [(0.4, v), (0.5, v)] for n, v in one.items() for s in (0, 1, 2)}
    for seed, value in enumerate((0.19, 0.2, 0.22)):
        values["cosface_memvir_1_7", seed] = [(0.4, value), (0.5, value)]
    finished(made, "main", values)
    for job in made.jobs("wide"):
        if "cosface" in job.name:
            value = values[job.name.partition("/")[2], job.seed]
            finish(job, made, *value, memvir={"cosine_to_newest": 0.9 + job.seed / 10})
    path = made.results.folder / "wide/glyphs/cosface_memvir_1_7/config.yaml"
    memvir = "{loss: {CosFace: {}}, num_steps: 1, step_gap: 7, warmup_epochs: 1}"
    with path.open("a") as file:
        file.write(f"loss_funcs: {{metric_loss: {{MemVir: {memvir}}}}}\n")
    made.refresh()
    head, _, dense, cheap = table_of(made_of(made), "wide")
    assert dense[:5] == ["N = 5, M = 100", "+10.00 [+10.00, +10.00]", "-", "-", "-"]
    assert cheap[:3] == [
        "N = 1, M = 7",
        "+10.33 [+6.54, +14.13]",
        "+0.33 [-3.46, +4.13]",
    ]
    assert cheap[3:5] == ["yes", "no"]
    assert cheap[5:7] == ["-", "-"]
    assert cheap[8:] == ["1.000", "1", "-"] and dense[7] == "-"
    from pml_memvir import MemVir

    assert float(cheap[7]) == round(MemVir.estimate_nbytes(1, 7, 10, 4, 8) / 1e6, 1)


PIVOT = """
            heading: tuned
            head: rates
            pivot: loss
            rows:
              - {of: tune, label: "{rates.network:g}"}
              - each: {loss: [softmax, cosface]}
                pick: {best: tune}
                of: tune
                among: best
                label: best
            columns:
              - head: x
                format: "{seen} ({d})"
                of: {seen: {show: seen, name: a}, d: {selection: held_out}}
"""


def test_a_column_a_loss(tmp_path):
    """With the setting that each has picked; none before that is known."""
    made = study(tmp_path, STAGES + page(PIVOT.strip()))
    jobs = made.jobs("tune")
    for job, value in zip(jobs[:3], (0.5, 0.25, 0.25)):
        finish(job, made, (value, 0.5), memvir={"a": value})
    *_, best = table_of(made_of(made), "tuned")
    assert best == ["best", "0.50 (-)", "-"]
    finish(jobs[3], made, (0.5, 0.5))
    head, _, *rows = table_of(made_of(made), "tuned")
    assert head == ["rates", "softmax", "cosface"]
    assert rows == [
        ["0.001", "0.50 (-)", "0.25 (-)"],
        ["0.002", "0.25 (-25.00)", "- (+25.00)"],
        ["best", "0.50 (-)", "- (+25.00)"],
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        (("show: pairs", "show: pears"), "show must be one of pairs, .*got 'pears'"),
        (('label: "{loss}"', 'label: "{lass}"'), "cannot fill in '{lass}'"),
        (("of: main.memvir", "of: mine"), "expected one of tune, main, wide"),
        (("selection: last}", "selecton: last}"), "columns.4.selecton: Extra"),
        (
            ("selection: last}", "selection: lst}"),
            "columns.4.selection: expected one o",
        ),
        (("heading:", "figure:"), "sections.0: rows need a heading"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, message):
    with pytest.raises(StudyError, match=message):
        made_of(compared(tmp_path, COMPARISON.replace(*change)))
