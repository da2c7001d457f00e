"""The study: what it runs, and what it picks."""

import pytest

pytest.importorskip("omegaconf", reason="runs are configs, read with it")

from benchmarks.config import differences  # noqa: E402
from benchmarks.study import (  # noqa: E402
    STAGES,
    photographs,
    reports,
    settings,
    stages,
    tuning,
)
from benchmarks.study.follow_up import FOLLOW_UPS  # noqa: E402

from .study_runs import config, finish  # noqa: E402

# Neither is a preset's.
RATES, MEMORY = settings.Rates(1e-3, 0.5), settings.Memory(1, 100)
REPORT_OF_CONTROLS = {"glyphs": "controls", "emoji": "controls_emoji"}


@pytest.fixture
def picked(monkeypatch):
    """As if tuning had picked these, and other rates for MemVir."""
    trials = settings.Rates(4e-3, 1e-1), MEMORY
    monkeypatch.setattr(tuning, "best", lambda trials, results: next(iter(trials)))
    monkeypatch.setattr(stages, "picked_rates", lambda *a: RATES)
    monkeypatch.setattr(stages, "picked_memvir", lambda *a: trials)


def test_every_run_has_a_config_of_its_own(tmp_path, picked):
    for stage, make in STAGES.items():
        jobs = list(make(tmp_path))
        assert jobs, stage
        assert len({job.trial(tmp_path) for job in jobs}) == len(jobs)
        by_name = {job.name: config(job, tmp_path) for job in jobs}
        for job in jobs:
            assert by_name[job.name].split_manager["ClassDisjointSplitManager"]
            if job.folder == "main":
                assert job.baseline is None or job.baseline in by_name


@pytest.mark.parametrize("stage", ["glyphs-main", "emoji-main", "emoji-factors"])
def test_arms_differ_in_memvir_and_rates_alone(tmp_path, picked, stage):
    jobs = list(STAGES[stage](tmp_path))
    assert len(jobs) % 2 == 0
    for plain, memvir in zip(jobs[::2], jobs[1::2]):
        one, other = config(plain, tmp_path), config(memvir, tmp_path)
        assert memvir.baseline == plain.name and memvir.seed == plain.seed
        changed = {line.split(":")[0].split(".")[0] for line in differences(one, other)}
        assert changed == {"experiment_name", "baseline", "loss_funcs", "optimizers"}
        rates = one.optimizers["trunk_optimizer"]["Adam"].pop("lr")
        other_rates = other.optimizers["trunk_optimizer"]["Adam"].pop("lr")
        assert (rates, other_rates) == (1e-3, 4e-3)
        assert one.optimizers["trunk_optimizer"] == other.optimizers["trunk_optimizer"]
        (inner,) = one.loss_funcs.values()
        (wrapped,) = other.loss_funcs.values()
        assert wrapped["MemVir"]["loss"] == inner


def test_seeds_are_finished_one_after_the_other(tmp_path, picked):
    for stage in (
        "glyphs-main",
        *FOLLOW_UPS,
        "glyphs-factors",
        "emoji-main",
        "emoji-controls",
        "emoji-factors",
        "emoji-factors-controls",
    ):
        seeds = [job.seed for job in STAGES[stage](tmp_path)]
        assert seeds == sorted(seeds) and tuning.SEED not in seeds


@pytest.mark.parametrize("dataset", stages.COMPARED)
def test_controls_are_the_plain_losses_at_the_rates_of_memvir(
    tmp_path, picked, monkeypatch, dataset
):
    jobs = list(STAGES[f"{dataset}-controls"](tmp_path))
    num_losses = len(stages.COMPARED[dataset])
    assert [job.seed for job in jobs[::num_losses]] == list(stages.SEEDS)
    arms = list(STAGES[f"{dataset}-main"](tmp_path))
    for control, plain, memvir in zip(jobs, arms[::2], arms[1::2]):
        assert control.baseline == plain.name and control.name != plain.name
        one, other, third = (config(j, tmp_path) for j in (control, plain, memvir))
        assert one.loss_funcs == other.loss_funcs
        assert one.optimizers == third.optimizers != other.optimizers
        assert one.num_epochs_train == third.num_epochs_train
    finish(jobs[1], tmp_path)
    against = reports.REPORTS[REPORT_OF_CONTROLS[dataset]].baselines(tmp_path)
    assert against == {f"{jobs[1].preset}_memvir": jobs[1].name}
    monkeypatch.setattr(stages, "picked_rates", lambda *a: settings.Rates(4e-3, 1e-1))
    for stage in (f"{dataset}-controls", "glyphs-controls-memvir"):
        assert not list(STAGES[stage](tmp_path))  # the plain arm's are the same


def test_random_weights_have_a_control_too(tmp_path, picked, monkeypatch):
    jobs = list(STAGES["emoji-factors-controls"](tmp_path))
    assert [job.seed for job in jobs] == list(stages.FACTOR_SEEDS)
    plain, memvir = list(STAGES["emoji-factors"](tmp_path))[:2]
    assert jobs[0].baseline == plain.name and jobs[0].folder == plain.folder
    one, other, third = (config(job, tmp_path) for job in (jobs[0], plain, memvir))
    assert one.models == other.models and one.trainer == other.trainer
    assert one.models["trunk"]["efficientnet_lite0"]["weights"] is None
    assert one.loss_funcs == other.loss_funcs
    assert one.optimizers == third.optimizers != other.optimizers
    monkeypatch.setattr(stages, "picked_rates", lambda *a: settings.Rates(4e-3, 1e-1))
    assert not list(STAGES["emoji-factors-controls"](tmp_path))


def test_controls_are_memvir_at_the_rates_of_the_plain_losses(tmp_path, picked):
    jobs = list(STAGES["glyphs-controls-memvir"](tmp_path))
    assert [job.seed for job in jobs[::6]] == list(stages.FACTOR_SEEDS)
    arms = list(STAGES["glyphs-main"](tmp_path))
    for control, plain, memvir in zip(jobs, arms[::2], arms[1::2]):
        assert control.baseline == plain.name and control.name != memvir.name
        one, other, third = (config(j, tmp_path) for j in (control, plain, memvir))
        assert one.optimizers == other.optimizers != third.optimizers
        assert one.loss_funcs == third.loss_funcs
        assert one.num_epochs_train == other.num_epochs_train


@pytest.mark.parametrize("dataset, trials", [("glyphs", 6), ("emoji", 5)])
def test_arms_have_as_many_trials(tmp_path, picked, dataset, trials):
    losses = stages.COMPARED[dataset]
    plain = list(STAGES[f"{dataset}-tune-plain"](tmp_path))
    memvir = list(STAGES[f"{dataset}-tune-memvir"](tmp_path))
    memvir += STAGES[f"{dataset}-tune-more"](tmp_path)
    assert len(plain) == len(memvir) == trials * len(losses)
    assert {job.seed for job in plain + memvir} == {tuning.SEED}
    assert len({job.overrides + (job.preset,) for job in plain + memvir}) == len(
        plain + memvir
    )


def test_factors_change_what_they_say(tmp_path, picked):
    by_name = {
        job.name: config(job, tmp_path) for job in STAGES["glyphs-factors"](tmp_path)
    }
    name = "glyphs/norm_softmax"
    reference = by_name[f"{name}_memvir_5_100"]
    for arm, change in {
        "_memvir_5_2": {"loss_funcs.metric_loss.MemVir.step_gap: 100 -> 2"},
        "_memvir+class_lr_x10": {"optimizers.metric_loss_optimizer.Adam.lr: 0.5 -> 5"},
        "_memvir+100_classes": {"dataset.Glyphs.num_train_classes: (nothing) -> 100"},
    }.items():
        found = differences(reference, by_name[name + arm])
        assert {
            x for x in found if x[:10] not in ("experiment", "baseline: ")
        } == change


def test_follow_ups_are_at_the_rates_of_the_plain_losses(tmp_path, picked):
    wide = list(STAGES["glyphs-wide-gap"](tmp_path))
    compared = list(STAGES["glyphs-main"](tmp_path))
    for arm, plain, memvir in zip(wide, compared[::2], compared[1::2], strict=True):
        assert (arm.baseline, arm.seed) == (plain.name, plain.seed)
        one, other, third = (config(j, tmp_path) for j in (arm, plain, memvir))
        assert one.optimizers == other.optimizers
        assert one.num_epochs_train == other.num_epochs_train
        found = [x for x in differences(one, third) if x.startswith("loss_funcs")]
        assert found == [
            "loss_funcs.metric_loss.MemVir.num_steps: 5 -> 1",
            "loss_funcs.metric_loss.MemVir.step_gap: 500 -> 100",
        ]
    few = list(STAGES["glyphs-few-classes"](tmp_path))
    assert len(few) == len(compared)
    assert not {job.seed for job in few} & {job.seed for job in compared}
    for plain, arm in zip(few[::2], few[1::2]):
        assert (arm.baseline, arm.seed) == (plain.name, plain.seed)
        one, other = config(plain, tmp_path), config(arm, tmp_path)
        assert one.dataset == other.dataset
        assert one.dataset["Glyphs"]["num_train_classes"] == 100
        changed = {line.split(":")[0].split(".")[0] for line in differences(one, other)}
        assert changed == {"experiment_name", "baseline", "loss_funcs"}
        assert one.optimizers["metric_loss_optimizer"]["Adam"]["lr"] == 0.5
        memvir = other.loss_funcs["metric_loss"]["MemVir"]
        assert (memvir["num_steps"], memvir["step_gap"]) == (5, 100)


def test_a_setting_is_picked_by_held_out_classes_at_their_best_epoch(tmp_path):
    """Test accuracies say the opposite."""
    trials = tuning.plain_trials("glyphs", "softmax")
    for place, one in enumerate(trials.values()):
        best = place == 2
        finish(one, tmp_path, held_out=0.9 if best else 0.5, test=0.1 if best else 0.9)
    assert tuning.picked_rates("glyphs", "softmax", tmp_path) == list(trials)[2]


def test_memvir_is_tuned_in_two_rounds(tmp_path):
    """Over N and M at the best rates of the first round, then around the best."""
    plain = tuning.plain_trials("glyphs", "softmax")
    for place, one in enumerate(plain.values()):
        finish(one, tmp_path, held_out=[0.5, 0.5, 0.6, 0.9, 0.5, 0.5][place])
    assert tuning.picked_rates("glyphs", "softmax", tmp_path) == list(plain)[3]
    first = tuning.first_memvir_trials("glyphs", "softmax", tmp_path)
    assert {rates for rates, _ in first} == {list(plain)[2]}
    for place, one in enumerate(first.values()):
        assert one.baseline == "glyphs/softmax+lr_0.002_0.1"
        finish(one, tmp_path, held_out=[0.5, 0.7, 0.6][place])
    more = tuning.more_memvir_trials("glyphs", "softmax", tmp_path)
    assert list(more) == [
        (settings.Rates(2e-3, 1e-2), settings.Memory(5, 100)),
        (settings.Rates(4e-3, 1e-1), settings.Memory(5, 100)),
        (settings.Rates(2e-3, 1e-1), settings.Memory(1, 400)),
    ]
    for place, one in enumerate(more.values()):
        finish(one, tmp_path, held_out=[0.5, 0.8, 0.7][place])
    picked = tuning.picked_memvir("glyphs", "softmax", tmp_path)
    assert picked == (settings.Rates(4e-3, 1e-1), settings.Memory(5, 100))


@pytest.mark.parametrize("which", ["main", "more"])
def test_photographs_are_compared_at_the_rates_of_the_plain_losses(tmp_path, which):
    tune = "plain" if which == "main" else "more"
    trials = list(STAGES[f"photographs-tune-{tune}"](tmp_path))
    assert len(trials) == 2 * 2 * len(photographs.RATES)
    with pytest.raises(FileNotFoundError, match="not finished; tune first"):
        list(STAGES[f"photographs-{which}"](tmp_path))
    for place, one in enumerate(trials):  # another pair is best for each
        best = place % 4 == place // 4
        finish(one, tmp_path, held_out=0.9 if best else 0.5, test=0.1 if best else 0.9)
    jobs = list(STAGES[f"photographs-{which}"](tmp_path))
    assert [job.seed for job in jobs[::12]] == list(photographs.SEEDS)
    assert tuning.SEED not in photographs.SEEDS
    for k in range(0, len(jobs), 3):
        plain, *arms = jobs[k : k + 3]
        picked = photographs.RATES[k // 3 % 4]
        one = config(plain, tmp_path)
        adam = {x: one.optimizers[f"{x}_optimizer"]["Adam"] for x in settings.OPTIMIZED}
        assert adam["trunk"]["lr"] == adam["embedder"]["lr"] == picked.network
        assert adam["metric_loss"]["lr"] == picked.class_weights
        for arm, memory in zip(arms, photographs.MEMORIES, strict=True):
            assert (arm.baseline, arm.seed) == (plain.name, plain.seed)
            other = config(arm, tmp_path)
            changed = {x.split(":")[0].split(".")[0] for x in differences(one, other)}
            assert changed == {"experiment_name", "baseline", "loss_funcs"}
            memvir = other.loss_funcs["metric_loss"]["MemVir"]
            assert memvir["loss"] == one.loss_funcs["metric_loss"]
            assert memvir["step_gap"] == memory.step_gap
            assert memvir.get("class_weights_every") == memory.class_weights_every


def test_nothing_is_picked_before_all_trials_are_finished(tmp_path):
    *first, last = tuning.plain_trials("glyphs", "softmax").values()
    for one in first:
        finish(one, tmp_path)
    with pytest.raises(FileNotFoundError, match="not finished; tune first"):
        tuning.picked_rates("glyphs", "softmax", tmp_path)
    finish(last, tmp_path, finished=False)
    with pytest.raises(FileNotFoundError, match="not finished; tune first"):
        tuning.picked_rates("glyphs", "softmax", tmp_path)
