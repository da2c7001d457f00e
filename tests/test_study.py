"""A study's file: the runs that it comes to, and what they are picked by."""

from pathlib import Path

import pytest

from benchmarks.study import NotPicked, Study, StudyError

from .study_runs import KINDS, finish, study

TUNED = """
stages:
  tune:
    folder: tuning
    seeds: [100]
    each: {loss: [softmax, cosface]}
    arms:
      first: &trial
        each: {rates: [[1e-3, 0.5], [2e-3, 0.5]]}
        preset: "glyphs/{loss}"
        name: "glyphs/{loss}+{rates}"
        set: [rates, num_epochs_train=2]
      more:
        <<: *trial
        each: {rates: [[4e-3, 0.5]]}
  compare:
    folder: main
    seeds: [0, 1]
    each: {loss: [softmax, cosface]}
    pick: {plain: tune}
    let: {memory: [5, 100]}
    arms:
      plain: {preset: "glyphs/{loss}", set: [plain.rates]}
      memvir:
        preset: "glyphs/{loss}_memvir"
        baseline: "glyphs/{loss}"
        set: [plain.rates, memory, num_epochs_train=3]
"""


def tuned(tmp_path, held_out, text=""):
    """Its trials finished; test accuracies say the opposite."""
    made = study(tmp_path, TUNED + text)
    for job, value in zip(made.jobs("tune"), held_out):
        finish(job, made, (0.1, 0.5), (value, 1 - value), (0.2, 0.5))
    return made


def test_runs_are_the_loops_of_a_stage(tmp_path):
    """Seeds outermost; arms within the stage's own loop, in the file's order."""
    made = tuned(tmp_path, [0.3, 0.4, 0.5, 0.5, 0.4, 0.3])
    assert [job.name for job in made.jobs("tune")] == [
        f"glyphs/{loss}+lr_{rate}_0.5"
        for loss in ("softmax", "cosface")
        for rate in ("0.001", "0.002", "0.004")
    ]
    jobs = made.jobs("compare")
    assert [(job.seed, job.name) for job in jobs] == [
        (seed, f"glyphs/{loss}{end}")
        for seed in (0, 1)
        for loss in ("softmax", "cosface")
        for end in ("", "_memvir")
    ]
    assert (jobs[1].baseline, jobs[1].folder) == ("glyphs/softmax", "main")
    assert jobs[1].overrides == (
        "optimizers.trunk_optimizer.Adam.lr=0.004",
        "optimizers.metric_loss_optimizer.Adam.lr=0.5",
        "loss_funcs.metric_loss.MemVir.num_steps=5",
        "loss_funcs.metric_loss.MemVir.step_gap=100",
        "num_epochs_train=3",
    )


def test_a_setting_is_picked_by_held_out_classes_at_their_best_epoch(tmp_path):
    """Of equals the first; each loss by its own trials."""
    made = tuned(tmp_path, [0.3, 0.4, 0.5, 0.5, 0.4, 0.5])
    softmax, cosface = made.jobs("compare")[0], made.jobs("compare")[2]
    assert softmax.overrides[0].endswith("lr=0.004")
    assert cosface.overrides[0].endswith("lr=0.001")
    picked = softmax.context["plain"]
    assert picked.experiment == "tuning/glyphs/softmax+lr_0.004_0.5"


def test_nothing_is_picked_before_all_trials_are_finished(tmp_path):
    made = tuned(tmp_path, [0.3, 0.4, 0.5, 0.5, 0.4])
    with pytest.raises(NotPicked, match="cosface.lr_0.004_0.5, seed 100, is not fin"):
        made.jobs("compare")
    finish(made.jobs("tune")[-1], made, (0.9, 0.9), finished=False)
    with pytest.raises(NotPicked, match="is not finished"):
        made.jobs("compare")


def test_seeds_of_an_experiment_are_picked_by_their_mean(tmp_path):
    text = TUNED.replace("seeds: [100]", "seeds: [100, 101]")
    made = study(tmp_path, text)
    jobs = made.jobs("tune")  # the first rate is best in the first seed only
    values = [0.5, 0.4, 0.3, 0.5, 0.4, 0.3, 0.1, 0.4, 0.3, 0.1, 0.4, 0.3]
    for job, value in zip(jobs[:-1], values):
        finish(job, made, (value, 0.5))
    with pytest.raises(NotPicked, match="cosface.*seed 101, is not finished"):
        made.jobs("compare")
    finish(jobs[-1], made, (values[-1], 0.5))
    made.refresh()
    picked = made.jobs("compare")[0].context["plain"]
    assert picked.experiment == "tuning/glyphs/softmax+lr_0.002_0.5"


def test_an_arm_that_several_contexts_share_is_in_each(tmp_path):
    text = """
stages:
  tune:
    folder: tuning
    seeds: [0]
    each: {gap: [20, 100]}
    arms:
      plain: {preset: glyphs/softmax}
      memvir: {preset: glyphs/softmax_memvir, name: "glyphs/{gap}"}
"""
    made = study(tmp_path, text)
    for gap in (20, 100):
        arms = made.arms("tune", {"gap": gap}, done=False)
        assert [job.name for job in arms] == ["glyphs/softmax", f"glyphs/{gap}"]


def test_two_runs_of_one_name_are_refused(tmp_path):
    text = TUNED.replace('name: "glyphs/{loss}+{rates}"', 'name: "glyphs/{loss}"')
    with pytest.raises(
        StudyError, match="two runs .* called tuning/glyphs/softmax, se"
    ):
        study(tmp_path, text).jobs("tune")


MORE = """
  around:
    folder: tuning
    seeds: [100]
    each: {loss: [softmax]}
    pick: {best: tune.first}
    arms:
      other:
        let: {rates: {of: best.rates, class_weights: {other: [0.5, 0.25]}}}
        preset: "glyphs/{loss}"
        name: "glyphs/{loss}_other+{rates}"
        set: [rates]
      times:
        let: {rates: {of: best.rates, network: {times: 10}}, size: {memory: [1, 2, 3]}}
        preset: "glyphs/{loss}_memvir"
        name: "glyphs/{loss}_{size}+{rates}"
        set: [rates, size]
  same:
    folder: main
    seeds: [0]
    each: {loss: [softmax, cosface]}
    pick: {one: tune, two: tune.first}
    unless_equal: [one.rates, two.rates]
    arms: {plain: {preset: "glyphs/{loss}", set: [two.rates]}}
"""


def test_settings_that_are_changes_of_others(tmp_path):
    made = tuned(tmp_path, [0.3, 0.4, 0.5, 0.5, 0.4, 0.3], MORE)
    other, times = made.jobs("around")
    assert other.name == "glyphs/softmax_other+lr_0.002_0.25"
    assert times.name == "glyphs/softmax_memvir_1_2_every_3+lr_0.02_0.5"
    assert times.overrides[-1].endswith("snapshot_every=3")
    (same,) = made.jobs("same")  # CosFace's are equal
    assert same.name == "glyphs/softmax"


@pytest.mark.parametrize(
    "change, message",
    [
        (("[0.5, 0.25]", "[0.1, 0.25]"), r"class_weights was 0.5; expected {times: N"),
        (
            ("{times: 10}", "{times: ten}"),
            "network was 0.002; expected {times: NUMBER}",
        ),
        (("network: {times", "net: {times"), "net was None; expected {times: NUMBER}"),
        (("of: best.rates, cl", "of: loss, cl"), "loss has no fields to change"),
    ],
)
def test_a_change_that_cannot_be_made(tmp_path, change, message):
    assert change[0] in MORE
    more = MORE.replace(*change)
    made = tuned(tmp_path, [0.3, 0.4, 0.5, 0.5, 0.4, 0.3], more)
    with pytest.raises(StudyError, match=message):
        made.jobs("around")


@pytest.mark.parametrize(
    "change",
    [("gap}", "gaps}"), ("{num_steps}", "{}")],
)
def test_a_kind_has_its_fields_only(tmp_path, change):
    """A part with one that is misspelt would be left out as one that is not given."""
    with pytest.raises(StudyError, match="kinds.memory: '.*' has {.*which is none of"):
        study(tmp_path, TUNED, KINDS.replace(*change))


def test_figures_of_a_report_are_known(tmp_path):
    with pytest.raises(StudyError, match="figures.0: expected one of differences, cu"):
        study(tmp_path, "reports: {main: {of: [main/*], figures: [curve]}}")


def test_a_file_may_be_included_by_several(tmp_path):
    (tmp_path / "one.yaml").write_text(TUNED)
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("include: [one.yaml]")
    made = study(tmp_path, "include: [a.yaml, b.yaml]")
    assert list(made.stages) == ["tune", "compare"]


def test_no_stage_is_there_twice(tmp_path):
    (tmp_path / "one.yaml").write_text(TUNED)
    with pytest.raises(StudyError, match="there are stages tune, compare already"):
        study(tmp_path, f"include: [one.yaml]\n{TUNED}", kinds="")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ("folder: main", "folders: main"),
            "study.yaml is no study.*stages.compare.folders: Extra",
        ),
        (("seeds: [0, 1]", "about: x"), "compare.seeds: .*required"),
        (("pick: {plain: tune}", "pick: {plain: tun}"), "expected one of .*got 'tun'"),
        (("set: [plain.rates]", "set: [plain.lr]"), "there is no 'plain.lr', but"),
        (("{memory: [5, 100]}", "{memory: [5, 1, 1, 1]}"), "memory: expected a list"),
        (('"glyphs/{loss}_memvir"', '"{what}"'), "cannot fill in '{what}'"),
        (
            ("arms:\n      plain", "arms:\n      plain: 3\n      x"),
            "arms.plain: .*a valid dictionary",
        ),
        (("stages:", "stage:"), "is no study.*: stage: Extra"),
        (("stages:", "stages: ["), "is no study"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, message):
    assert change[0] in TUNED
    with pytest.raises(StudyError, match=message):
        made = study(tmp_path, TUNED.replace(*change))
        for job in made.jobs("tune"):
            finish(job, made, (0.5, 0.5))
        made.jobs("compare")


def test_files_that_are_included(tmp_path):
    """Overlays are beside the file that names them."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "one.yaml").write_text(
        "with: [small.yaml]\nstages: {one: {folder: a, seeds: [0], preset: glyphs/x}}"
    )
    made = study(tmp_path, "include: [inner/one.yaml]")
    (job,) = made.jobs("one")
    assert job.files == (tmp_path / "inner" / "small.yaml",)
    arm = '{a: {preset: "{of}/x", with: ["{of}_runs.yaml", validation]}}'
    own = "stages: {one: {folder: a, seeds: [0], preset: inner/own.yaml}}"
    (job,) = study(tmp_path, own).jobs("one")  # wherever it is started from
    assert (job.preset, job.name) == (str(tmp_path / "inner/own.yaml"), "inner/own")
    of = "stages: {two: {folder: b, seeds: [0], each: {of: [y, z]}, arms: %s}}"
    job, other = study(tmp_path, of % arm).jobs("two")
    assert job.files == (tmp_path / "y_runs.yaml", Path("validation"))
    assert (other.preset, other.files[0].name) == ("z/x", "z_runs.yaml")
    with pytest.raises(StudyError, match="missing.yaml is no study"):
        Study(tmp_path / "missing.yaml")
