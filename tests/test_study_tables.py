"""Tables of the study, worked out by hand."""

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from benchmarks.study import STAGES, Job, compared, stages  # noqa: E402
from benchmarks.study.controls import controls_tables  # noqa: E402
from benchmarks.study.factors import factors_tables  # noqa: E402
from benchmarks.study.follow_up import follow_up_tables  # noqa: E402
from benchmarks.study.lengths import by_length  # noqa: E402
from benchmarks.study.picked import picked_tables  # noqa: E402
from benchmarks.study.shares import shares_tables  # noqa: E402

from .study_runs import curve, finish, table_of  # noqa: E402


def test_what_was_picked(tmp_path):
    """The best trial of each arm, of the data sets whose tuning is over."""
    assert picked_tables(tmp_path) == ""
    for name in ("plain", "memvir", "more"):
        for k, job in enumerate(STAGES[f"glyphs-tune-{name}"](tmp_path)):
            value = 0.3 + 0.01 * (k % 7) + 0.1 * (name == "more")
            finish(job, tmp_path, held_out=value, test=1 - value)
    text = picked_tables(tmp_path)
    assert "emoji" not in text
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.split("\n")]
    (softmax,) = [row for row in rows if row[:1] == ["softmax"]]
    # Plain: 30 to 35, the sixth trial best. MemVir: 30 to 32 at the plain loss's third
    # rates, then 40 to 42, with another memory in the last trial.
    assert softmax == [
        "softmax",
        "0.004, 0.1",
        "35.00",
        "0.002, 0.1",
        "1, 400",
        "42.00",
        "+7.00",
    ]
    assert len([row for row in rows if row and row[0] in stages.LOSSES]) == 6


def test_shares_and_differences_of_the_trials(tmp_path):
    """To the plain loss at the same rates; Proxy-Anchor has no shares."""
    assert shares_tables(tmp_path) == ""
    plain = (0.30, 0.31, 0.35, 0.32, 0.33, 0.40)  # the third is the first round's best
    for k, job in enumerate(STAGES["glyphs-tune-plain"](tmp_path)):
        finish(job, tmp_path, held_out=plain[k % 6])
    ours = {"memvir": (0.33, 0.34, 0.32), "more": (0.36, 0.37, 0.38)}
    for name, values in ours.items():
        for k, job in enumerate(STAGES[f"glyphs-tune-{name}"](tmp_path)):
            share = values[k % 3] + 0.5 + 0.01 * (k // 3)
            memvir = {"share_of_actual_classes": share}
            memvir = {} if "anchor" in job.name else memvir
            finish(job, tmp_path, held_out=values[k % 3], memvir=memvir)
    head, _, *rows = table_of(shares_tables(tmp_path), "glyphs, shares")
    assert head == ["setting", *stages.LOSSES]
    assert [row[2][:4] for row in rows[:3]] == ["0.84", "0.85", "0.83"]  # its own
    assert [[row[0], row[1], row[-1]] for row in rows] == [
        ["N = 5, M = 20", "0.83 (-2.00)", "- (-2.00)"],
        ["N = 5, M = 100", "0.84 (-1.00)", "- (-1.00)"],
        ["N = 1, M = 100", "0.82 (-3.00)", "- (-3.00)"],
        ["the best of these", "0.84 (-1.00)", "- (-1.00)"],
        ["... class weights' other rate", "0.86 (+6.00)", "- (+6.00)"],
        ["... network's rate 0.004", "0.87 (-3.00)", "- (-3.00)"],
        ["N = 1, M = 400", "0.88 (+3.00)", "- (+3.00)"],
    ]


def test_shares_have_a_line_for_every_trial(tmp_path):
    """On Emoji both rates change at once, too."""
    for name in ("plain", "memvir", "more"):
        jobs = list(STAGES[f"emoji-tune-{name}"](tmp_path))
        step = 0.01 if name == "plain" else 0.02
        for k, job in enumerate(jobs):
            finish(job, tmp_path, held_out=0.3 + step * (k % (len(jobs) // 2)))
    _, _, *rows = table_of(shares_tables(tmp_path), "emoji, shares")
    # Plain: 30, 31, the first round's best, then 32, 33, 34. MemVir: 30 and 32 at the
    # best rates; then 30 at the plain loss's 30, 32 at its 33 and 34 at its 32.
    assert [row[:2] for row in rows] == [
        ["N = 5, M = 100", "- (-1.00)"],
        ["N = 1, M = 400", "- (+1.00)"],
        ["the best of these", "- (+1.00)"],
        ["... class weights' other rate", "- (+0.00)"],
        ["... network's rate 0.001", "- (-1.00)"],
        ["... class weights' other rate, network's rate 0.001", "- (+2.00)"],
    ]


def test_tables_of_differences(tmp_path):
    """By how epochs are picked, and by the length of training; by hand."""
    assert (
        compared.comparison_tables(tmp_path) == compared.length_tables(tmp_path) == ""
    )
    plain = [(0.3, 0.20), (0.5, 0.30), (0.4, 0.50), (0.1, 0.10)]  # 2 is picked, 3 best
    ours = [(0.3, 0.10), (0.2, 0.20), (0.6, 0.44), (0.1, 0.40)]  # 3 is, 1 until 2
    for seed in (0, 1):
        base = Job("main", "glyphs/cosface", "glyphs/cosface", (), seed)
        arm = Job(
            "main",
            "glyphs/cosface_memvir",
            "glyphs/cosface_memvir",
            (),
            seed,
            "glyphs/cosface",
        )
        curve(base, tmp_path, plain)
        curve(arm, tmp_path, [(v, t + 0.02 * seed) for v, t in ours])
    alone = Job("main", "glyphs/cosface", "glyphs/cosface", (), 2)
    curve(alone, tmp_path, [(0.9, 0.9)] * 4)  # is in no number: nothing to pair it with

    def cell(mean, half=12.71):
        return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"

    head, _, row = table_of(compared.comparison_tables(tmp_path), "glyphs, MAP@R")
    means = {
        "picked epoch": 15,
        "last epoch": 31,
        "best on test": -5,
        "held-out classes": 10,
    }
    assert head == ["loss", "pairs", "plain", "with MemVir", *means]
    assert row == [
        "cosface",
        "2",
        "30.00",
        "45.00",
        *map(cell, (15, 31, -5)),
        "+10.00 [+10.00, +10.00]",
    ]
    *_, row = table_of(compared.comparison_tables(tmp_path), "glyphs, Recall@1")
    assert row[2:5] == ["15.00", "22.50", "+7.50 [+1.15, +13.85]"]
    *_, row = table_of(compared.comparison_tables(tmp_path), "glyphs, R-Precision")
    assert row[2:5] == ["7.50", "11.25", "+3.75 [+0.57, +6.93]"]
    head, _, row = table_of(compared.length_tables(tmp_path), "glyphs, length")
    steps = [f"{thousands},000 steps" for thousands in (1, 2, 3, 4)]
    assert head == ["loss", "pairs", *steps]
    assert row == ["cosface", "2", *map(cell, (-9, -19, 15, 15))]


@pytest.mark.parametrize(
    "heading, stage, folder, change",
    [
        ("glyphs", "glyphs-controls", "main", ""),
        ("emoji", "emoji-controls", "main", ""),
        ("emoji, random weights", "emoji-factors-controls", "factors", "+random"),
    ],
)
def test_table_of_controls(tmp_path, monkeypatch, heading, stage, folder, change):
    """MemVir is held against them, and they against the plain loss; by hand.

    A seed without a control is in no number.
    """
    preset = f"{heading.partition(',')[0]}/softmax"
    name, arm = f"{preset}{change}", f"{preset}_memvir{change}"
    beside, control = folder.replace("main", "controls"), f"{preset}+at_others"
    jobs = [Job(beside, control, preset, (), seed, name) for seed in (0, 1, 2)]
    monkeypatch.setitem(STAGES, stage, lambda results: iter(jobs))
    assert controls_tables(tmp_path) == ""
    for seed in (0, 1, 2):
        plain = Job(folder, name, preset, (), seed)
        memvir = Job(folder, arm, f"{preset}_memvir", (), seed, name)
        own = 0.5 if seed == 2 else 0.2
        curve(plain, tmp_path, [(0.3, own), (0.2, 0.90)])  # the first is picked
        curve(memvir, tmp_path, [(0.2, 0.90), (0.3, 0.30 + 0.02 * seed)])
    for seed in (0, 1):
        curve(jobs[seed], tmp_path, [(0.3, 0.25 - 0.02 * seed), (0.1, 0.90)])
    head, _, row = table_of(controls_tables(tmp_path), f"{heading}, MAP@R")
    assert dict(zip(head, row)) == {
        "loss": "softmax",
        "pairs": "2",
        "plain, own rates": "20.00",
        "plain, MemVir's": "24.00",
        "with MemVir": "31.00",
        "MemVir, equal rates": "+7.00 [-18.41, +32.41]",  # of 5 and 9; t = 12.71
        "rates, no MemVir": "+4.00 [-8.71, +16.71]",
    }
    assert controls_tables(tmp_path).count("\n## ") == 3  # one a metric


def test_table_of_controls_with_memvir(tmp_path, monkeypatch):
    """They are held against the plain loss."""
    name = "glyphs/softmax"
    arm = f"{name}_memvir+lr_2_2"
    other = [Job("controls", arm, f"{name}_memvir", (), seed, name) for seed in (0, 1)]
    monkeypatch.setitem(STAGES, "glyphs-controls-memvir", lambda results: iter(other))
    for job in other:
        curve(Job("main", name, name, (), job.seed), tmp_path, [(0.3, 0.2), (0.2, 0.9)])
        curve(job, tmp_path, [(0.3, 0.17), (0.2, 0.90)])
    heading = "glyphs, MAP@R, the plain loss's rates"
    head, _, row = table_of(controls_tables(tmp_path), heading)
    assert row[:4] == ["softmax", "2", "20.00", "17.00"]
    shown = dict(zip(head, row))
    assert shown["picked epoch"] == "-3.00 [-3.00, -3.00]"
    assert shown["last epoch"] == "+0.00 [+0.00, +0.00]"


def test_factors_have_a_line_each(tmp_path, monkeypatch):
    """Plain runs of the comparison count as far as a factor's runs go."""
    name, length = "glyphs/norm_softmax", stages.FACTOR_EPOCHS
    made = []
    for seed in (0, 1):
        memory, changed = f"{name}_memvir_5_2", f"{name}_memvir+eps_0.01"
        made += [
            Job("factors", memory, f"{name}_memvir", (), seed, name),
            Job("factors", f"{name}+eps_0.01", name, (), seed),
            Job("factors", changed, f"{name}_memvir", (), seed, f"{name}+eps_0.01"),
        ]
    other = f"{name}_memvir_1_504"  # has not begun
    made.append(Job("factors", other, f"{name}_memvir", (), 0, name))
    monkeypatch.setitem(STAGES, "glyphs-factors", lambda results: iter(made))
    assert factors_tables(tmp_path) == ""
    for job, test, share in zip(made, (0.3, 0.5, 0.4) * 2, (0.25, None, 0.75) * 2):
        early = [(0.1, 0.9)] * (length - 1)
        share = share and share + 0.1 * job.seed
        curve(job, tmp_path, [*early, (0.2, test + 0.02 * job.seed)], share)
    for seed in (0, 1):
        values = [(0.1, 0.0)] * (length - 1) + [(0.2, 0.2)] + [(0.9, 0.9)] * length
        curve(Job("main", name, name, (), seed), tmp_path, values)
    head, _, *rows = table_of(factors_tables(tmp_path), "glyphs, MAP@R")
    shown = [dict(zip(head, row)) for row in rows]
    assert [row["change"] for row in shown] == ["N = 5, M = 2", "Adam's eps 0.01"]
    numbers = [(row["plain"], row["with MemVir"], row["share"]) for row in shown]
    assert numbers == [("20.00", "31.00", "0.30"), ("51.00", "41.00", "0.80")]
    assert [row["pairs"] for row in shown] == ["2", "2"]
    assert {row["held-out classes"] for row in shown} == {"+0.00 [+0.00, +0.00]"}
    # Of 10 and 12; t = 12.71.
    picked = [row["picked epoch"] for row in shown]
    assert picked == ["+11.00 [-1.71, +23.71]", "-10.00 [-10.00, -10.00]"]
    assert shown[0]["last epoch"] == shown[0]["picked epoch"]
    assert "to N = 5, M = 100" not in shown[0]
    for seed in (0, 1):  # 5 and 1 behind the other, of 15 and 13
        arm = f"{name}_memvir_5_100"
        made.append(Job("factors", arm, f"{name}_memvir", (), seed, name))
        values = [(0.1, 0.9)] * (length - 1) + [(0.2, 0.35 - 0.02 * seed)]
        curve(made[-1], tmp_path, values)
    head, _, *rows = table_of(factors_tables(tmp_path), "glyphs, MAP@R")
    shown = {row[0]: dict(zip(head, row))["to N = 5, M = 100"] for row in rows}
    assert shown == {
        "N = 5, M = 2": "-3.00 [-28.41, +22.41]",
        "Adam's eps 0.01": "-",
        "N = 5, M = 100": "-",
    }


def test_follow_ups_have_a_line_a_loss(tmp_path, monkeypatch):
    """Each against its own baseline, of the comparison or its own."""
    assert follow_up_tables(tmp_path) == ""
    wide, few = [], []
    for loss, test, share in (("softmax", 0.3, 0.9), ("proxy_anchor", 0.4, None)):
        name = f"glyphs/{loss}"
        arm = Job("follow_up", f"{name}_memvir_5_500", f"{name}_memvir", (), 0, name)
        wide.append(arm)
        curve(arm, tmp_path, [(0.2, test), (0.1, 0.0)], share)
        curve(Job("main", name, name, (), 0), tmp_path, [(0.2, 0.1), (0.1, 0.0)])
        plain, changed = f"{name}+100_classes", f"{name}_memvir+100_classes"
        few.append(Job("follow_up", plain, name, (), 5))
        few.append(Job("follow_up", changed, f"{name}_memvir", (), 5, plain))
    monkeypatch.setitem(STAGES, "glyphs-wide-gap", lambda results: iter(wide))
    monkeypatch.setitem(STAGES, "glyphs-few-classes", lambda results: iter(few))
    assert "100 training classes" not in follow_up_tables(tmp_path)
    curve(few[0], tmp_path, [(0.2, 0.4)])
    assert "100 training classes" not in follow_up_tables(tmp_path)
    curve(few[1], tmp_path, [(0.2, 0.3)], 0.5)
    head, _, *rows = table_of(
        follow_up_tables(tmp_path), "glyphs, N = 5, M = 500, MAP@R"
    )
    assert head[:5] == ["loss", "pairs", "plain", "with MemVir", "picked epoch"]
    assert [row[:5] + row[-1:] for row in rows] == [
        ["softmax", "1", "10.00", "30.00", "+20.00", "0.90"],
        ["proxy_anchor", "1", "10.00", "40.00", "+30.00", "-"],
    ]
    *_, row = table_of(
        follow_up_tables(tmp_path), "glyphs, 100 training classes, MAP@R"
    )
    assert row[:5] == ["softmax", "1", "40.00", "30.00", "-10.00"]


def test_lengths_of_a_follow_up_are_quarters_of_its_own(tmp_path, monkeypatch):
    """Baselines, of the comparison, may be longer; unfinished runs do not count."""
    name = "glyphs/softmax"
    arms = [
        Job("follow_up", f"{name}_memvir_5_500", f"{name}_memvir", (), seed, name)
        for seed in (0, 1, 2)
    ]
    monkeypatch.setitem(STAGES, "glyphs-wide-gap", lambda results: iter(arms))
    curve(arms[0], tmp_path, [], num_epochs=4)  # not evaluated yet
    curve(arms[1], tmp_path, [(0.1, 0.3), (0.2, 0.4), (0.1, 0.0), (0.3, 0.2)])
    curve(arms[2], tmp_path, [(0.1, 0.9), (0.2, 0.9)], num_epochs=4)
    plain = [(0.3, 0.1), (0.2, 0.9), (0.4, 0.3), (0.1, 0.0), (0.9, 0.9)]
    for seed in (0, 1, 2):
        curve(Job("main", name, name, (), seed), tmp_path, plain)
    lengths = table_of(follow_up_tables(tmp_path), "glyphs, N = 5, M = 500, length")
    assert lengths[0][1:] == ["pairs", *(f"{n},000 steps" for n in (1, 2, 3, 4))]
    assert lengths[-1] == ["softmax", "1", "+20.00", "+30.00", "+10.00", "-10.00"]


@pytest.mark.parametrize(
    "num_epochs, steps",
    [(10, ["2,000", "5,000", "7,000", "10,000"]), (2, ["1,000", "2,000"])],
)
def test_lengths_are_whole_epochs(tmp_path, num_epochs, steps):
    name = "glyphs/softmax"
    arm = Job("main", f"{name}_memvir", f"{name}_memvir", (), 0, name)
    for job in (arm, Job("main", name, name, (), 0)):
        curve(job, tmp_path, [(0.1, 0.3)] * num_epochs)
    columns = list(by_length([tmp_path / "main"]))
    assert columns == ["pairs", *(f"{n} steps" for n in steps)]


def test_a_follow_up_is_held_against_other_settings(tmp_path, monkeypatch):
    """Picked ones, and these at the plain loss's rates; ArcFace has but one of them."""
    wide, controls = [], []
    for loss, test in (("softmax", 0.5), ("arcface", 0.4)):
        name = f"glyphs/{loss}"
        for seed in (0, 1):
            made = [
                (Job("main", name, name, (), seed), 0.1),
                (Job("main", f"{name}_memvir", f"{name}_memvir", (), seed, name), 0.2),
            ]
            arm = f"{name}_memvir_5_500"
            wide.append(Job("follow_up", arm, f"{name}_memvir", (), seed, name))
            made.append((wide[-1], test))
            for job, value in made:
                curve(job, tmp_path, [(0.2, value), (0.1, 0.9)])
    arm = "glyphs/softmax_memvir+lr_1_1"
    controls.append(
        Job("controls", arm, "glyphs/softmax_memvir", (), 1, wide[0].baseline)
    )
    curve(controls[0], tmp_path, [(0.2, 0.6), (0.1, 0.9)])
    monkeypatch.setitem(STAGES, "glyphs-wide-gap", lambda results: iter(wide))
    monkeypatch.setitem(STAGES, "glyphs-controls-memvir", lambda r: iter(controls))
    heading = "glyphs, N = 5, M = 500, other settings"
    _, _, *rows = table_of(follow_up_tables(tmp_path), heading)
    of_softmax, of_arcface = "+30.00 [+30.00, +30.00]", "+20.00 [+20.00, +20.00]"
    assert rows == [
        ["softmax", "2", of_softmax, "1", "-10.00"],
        ["arcface", "2", of_arcface, "2", of_arcface],
    ]
