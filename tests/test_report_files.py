"""What a report writes, draws and prints."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.report import run
from benchmarks.report import text as escaped
from benchmarks.report.build import build
from benchmarks.report.latex import as_latex
from benchmarks.report.runs import read

from .report_folders import (
    MAP,
    R1,
    experiment,
    history,
    of_values,
    pair,
    records,
    report,
)


def test_the_protocol_is_in_each_file(tmp_path):
    pair(tmp_path / "a", of_values(0.5, 0.6), of_values(0.6, 0.6))
    _, text, files = report(tmp_path / "a", tmp_path)
    tables = {"report.md", "report.csv", "summary.csv", "report.tex", "report.html"}
    assert set(files) == {*tables, "curves.png", "differences.png"}
    for name in (*tables, "terminal"):
        words = re.sub(r"[\s#%]+", " ", text[name])
        assert "Data set: cars196; arms: 2; seeds: 2 finished (0, 1)" in words, name
        assert "picked on the test set: what the official code reports" in words, name
        assert "torch 2.9.9, pytorch-metric-learning 2.9.0, pml-memvir 7" in words, name
        assert "revision abababababab with changes" in words, name


def test_all_sessions_of_an_arm_are_told(tmp_path):
    folder = experiment(tmp_path / "a", "sop/softmax", of_values(0.5))
    versions = {"torch": "2.9.9"}
    states = [("ab", False), ("ab", True), ("cd", False), ("cd", False)]
    sessions = [
        {"versions": versions, "git": {"revision": start * 20, "dirty": dirty}}
        for start, dirty in states
    ]
    sessions.append("not a session")
    content = {**sessions[-2], "sessions": sessions}
    (folder / "environment.json").write_text(json.dumps(content))
    _, text, _ = report(tmp_path / "a", tmp_path)
    words = " ".join(text["report.md"].split())
    first, second = "ab" * 6, "cd" * 6
    revisions = f"{first} and {first} with changes and {second}."
    assert f"Versions: torch 2.9.9, revision {revisions}" in words


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


def test_latex(tmp_path):
    """Bold is the better one of a pair, if the interval says so; here R@1 only."""
    plain = [history(s, {1: (0.80, v)}) for s, v in enumerate((0.3, 0.1))]
    better = [history(s, {1: (0.9 + s / 1e3, 0.2)}) for s in range(2)]
    pair(tmp_path / "a", plain, better)
    text = as_latex(build(read([tmp_path / "a"]), ["last"], [R1, MAP]))
    first, second = re.findall(r"^softmax.*$", text, re.M)
    assert first == r"softmax & 2 & $80.00 \pm 0.00$ & $20.00 \pm 14.14$ \\"
    bold = r"$\mathbf{90.05 \pm 0.07}$"
    assert second == rf"softmax\_memvir & 2 & {bold} & $20.00 \pm 0.00$ \\"
    assert r"95\% interval" in text and "excludes 0" in text
    assert escaped.latex(r"a_b%c&d\{~^") == (
        r"a\_b\%c\&d\textbackslash{}\{\textasciitilde{}\textasciicircum{}"
    )
    pair(tmp_path / "b", better, plain)
    losing = as_latex(build(read([tmp_path / "b"]), ["last"], [R1]))
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


HOSTILE = "x/a|b\n<script>alert(1)</script> [l](http://e) `c` **b** $\\frac{1}$ &amp;"


def test_what_a_file_says_is_text_wherever_it_is_written(tmp_path):
    """An experiment's name, and what environment.json says of versions."""
    folder = experiment(tmp_path / "a" / "e", "name", of_values(0.5))
    config = {"experiment_name": HOSTILE, "baseline": None, "source": "ours"}
    (folder / "config.yaml").write_text(json.dumps(config))
    environment = {"versions": {"torch": "1\n\n# T <b>\x1b[31m</b>"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    experiment(tmp_path / "a", "x/other", of_values(0.5))  # names in two tables, then
    _, text, _ = report(tmp_path / "a", tmp_path)
    page = text["report.html"]
    assert page.count("&lt;script&gt;alert") > 3
    assert "&lt;script&gt;alert" in page and "<script>alert" not in page
    assert "<b>\x1b" not in page and "&amp;amp;" in page
    for name in ("report.md", "report.tex", "report.csv", "summary.csv", "terminal"):
        assert "\x1b" not in text[name], name
    markdown = text["report.md"]
    assert not re.search(
        r"(?<!\\)<(script|b)|^# T|(?<!\\)\]\(http|&amp;$", markdown, re.M
    )
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert cells == {6, 7}
    assert all(
        line[0] == "%" for line in text["report.tex"].split("\n\n")[0].split("\n")
    )
    assert r"\$\textbackslash{}frac\{1\}\$" in text["report.tex"]
    record, *_ = records(text["report.csv"])
    assert record["experiment"].startswith("x/a|b <script>")


@pytest.mark.parametrize(
    "write, text, expected",
    [
        (escaped.markdown, "a_b _c_ a|b", r"a_b \_c\_ a\|b"),
        (escaped.markdown, "[1.00, 2.00] ![x](y)", r"[1.00, 2.00] ![x\](y)"),
        (escaped.csv, "=HYPERLINK(1)", "'=HYPERLINK(1)"),
        (escaped.csv, -0.5, -0.5),
        (escaped.mathtext, "$x$\n", r"\$x\$ "),
        (escaped.plain, "a\u202eb\ud800\x00", "a b  "),
    ],
)
def test_escapes(write, text, expected):
    assert write(text) == expected


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    pair(tmp_path / "a", of_values(0.5, 0.6), of_values(0.6, 0.8))
    _, text, files = report(tmp_path / "a", tmp_path)
    page = text["report.html"]
    assert page.count("<img") == 2 and page.count('src="data:image/png;base64,') == 2
    assert not re.search(r"(src|href)=.(?!data:)", page) and "://" not in page
    policy = re.search(r"Content-Security-Policy\" content=\"([^\"]*)", page)[1]
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy
    assert '<table class="sorts">' in page and page.count("the epoch. Picked on") == 1
    assert "<b>softmax_memvir</b>" in page and "+15.00" in page
    image = np.asarray(Image.open(files["differences.png"]))
    assert image.any()
