"""A kill of an experiment changes nothing of what it finds."""

import os
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)

from benchmarks.config import ConfigError  # noqa: E402
from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402
from benchmarks.protocol.locks import locked  # noqa: E402

from .experiment_runs import (  # noqa: E402
    STEPS_PER_EPOCH,
    Killed,
    history,
    kill_at,
    records,
    run,
)
from .forks import Fork  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
LONGER = {"num_epochs_train": 12}
CHANGES = {"num_epochs_train": 4, "patience": 2}


def events(folder):
    """What TensorBoard shows of the training steps: (step, value) by name."""
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return {
        tag: [(event.step, str(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
        if not tag.startswith("accuracies")
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory, one_thread):
    with pytest.MonkeyPatch.context() as patch:
        calls = kill_at(patch, -1)
        folder = run(tmp_path_factory.mktemp("straight"), CHANGES)
    return folder / "seed0", calls[0]


@pytest.mark.parametrize("part", range(14))
def test_resumed_after_a_kill_at_any_write(straight, tmp_path, monkeypatch, part):
    expected, writes = straight
    with monkeypatch.context() as patch:
        kill_at(patch, 1 + part * (writes - 1) // 13)
        with pytest.raises(Killed):
            run(tmp_path, CHANGES)
    torch.manual_seed(99)  # another process has other random states
    folder = run(tmp_path, CHANGES) / "seed0"
    assert history(folder) == history(expected)
    assert records(folder) == records(expected)
    files = [
        {str(path.relative_to(f)) for path in (f / "models").rglob("*.pth")}
        for f in (folder, expected)
    ]
    assert files[0] == files[1]
    for name in files[0]:
        one, other = (
            torch.load(f / name, weights_only=True) for f in (folder, expected)
        )
        if "trunk_" in name and "optimizer" not in name:
            assert all(torch.equal(one[key], other[key]) for key in other)


def test_events_of_tensorboard_go_on_where_training_does(
    straight, tmp_path, monkeypatch
):
    """Killed between an epoch's evaluation and its checkpoint."""
    expected, _ = straight
    save = History.save

    def killed(history, folder):
        if len(history.epochs) == 2:
            raise Killed
        save(history, folder)

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", killed)
        with pytest.raises(Killed):
            run(tmp_path, CHANGES)
    folder = tmp_path / "tiny/norm_softmax_memvir/seed0"
    every_other = 2 * STEPS_PER_EPOCH // 2  # of two epochs' steps, by log_freq
    assert {len(found) for found in events(folder).values()} == {every_other}
    time.sleep(1)  # the files are in the order of the seconds that they began in
    run(tmp_path, CHANGES)
    assert events(folder) == events(expected)


def test_killed_for_real(tmp_path):
    expected = run(tmp_path / "straight", LONGER) / "seed0"
    folder = tmp_path / "killed" / expected.relative_to(tmp_path / "straight")
    models = folder / "models"
    fork = Fork(tmp_path, run, tmp_path / "killed", LONGER)
    while fork.process.is_alive() and not (models / "trunk_5.pth").exists():
        time.sleep(0.001)
    fork.kill()
    assert fork.wait() == -signal.SIGKILL
    assert not history(folder)["finished"]
    run(tmp_path / "killed", LONGER)
    assert history(folder) == history(expected)
    assert records(folder) == records(expected)


def test_kill_before_the_first_checkpoint(tmp_path, monkeypatch):
    """What was measured before training is measured again, and recorded once."""
    changes = {"num_epochs_train": 1, "check_untrained_accuracy": True}
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            run(tmp_path, changes)
    folder = run(tmp_path, changes) / "seed0"
    (name,) = [name for name in records(folder) if name.startswith("accuracies")]
    table = records(folder)[name]
    assert [row[0] for row in table[1:]] == ["0", "1"]


def test_kill_while_old_files_are_deleted(tmp_path, monkeypatch):
    unlink, count = Path.unlink, [0]

    def killed(path, **kwargs):
        if path.name.endswith("_1.pth"):
            count[0] += 1
            if count[0] == 3:
                raise Killed
        return unlink(path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            run(tmp_path)
    models = run(tmp_path) / "seed0" / "models"
    assert {path.stem[-2:] for path in models.glob("*.pth")} == {"_4"}


def test_kill_between_saving_and_keeping_the_best(tmp_path, monkeypatch):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed)
        with pytest.raises(Killed):
            run(tmp_path)
    folder = run(tmp_path) / "seed0"
    metric = "mean_average_precision_at_r"
    epoch = History.load(folder).best_epoch(metric)
    assert epoch == 1  # the one that was not copied
    assert (folder / "models" / f"best_on_test_{metric}" / "trunk_1.pth").exists()


def check_killed_in_mid_run(monkeypatch, tmp_path, changes, writes):
    """Killed after so many writes and resumed, it ends as one that was not killed."""
    expected = history(run(tmp_path / "straight", changes), "seed0")
    with monkeypatch.context() as patch:
        kill_at(patch, writes)
        with pytest.raises(Killed):
            run(tmp_path, changes)
    so_far = history(tmp_path / "tiny/norm_softmax_memvir", "seed0")
    assert 0 < len(so_far["epochs"]) < 4
    assert history(run(tmp_path, changes), "seed0") == expected


def test_epochs_of_another_length_than_the_loader_resume(tmp_path, monkeypatch):
    changes = {"trainer~APPLY~2": {"iterations_per_epoch": 4}}  # of 6 batches
    check_killed_in_mid_run(monkeypatch, tmp_path, changes, writes=25)


def test_figure_is_drawn_when_it_is_missing(tmp_path, monkeypatch):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "draw_tsne", killed)
        with pytest.raises(Killed):
            run(tmp_path, {"tsne_classes": 3})
    folder = run(tmp_path, {"tsne_classes": 3}) / "seed0"
    assert (folder / "tsne.png").exists()
    assert len(history(folder)["epochs"]) == 4


def test_one_process_a_trial(tmp_path):
    folder = tmp_path / "tiny" / "norm_softmax_memvir" / "seed0"
    folder.mkdir(parents=True)
    with locked(folder, "held"):
        with pytest.raises(ConfigError, match="another process trains here"):
            run(tmp_path)
    assert history(run(tmp_path), "seed0")["finished"]


def test_queue_of_cross_batch_memory_resumes(tmp_path, monkeypatch):
    contrastive = {"loss": {"ContrastiveLoss": {}}, "memory_size": 37}
    loss = {"metric_loss~OVERRIDE~": {"CrossBatchMemory": contrastive}}
    changes = {
        "loss_funcs": loss,
        "optimizers": {"metric_loss_optimizer~DELETE~": {}},
    }
    check_killed_in_mid_run(monkeypatch, tmp_path, changes, writes=30)
