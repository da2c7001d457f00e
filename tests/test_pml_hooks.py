"""PML's hooks and testers, record-keeper and TensorBoard, on real images."""

import csv
import sqlite3

import numpy as np
import pytest
import torch
from pytorch_metric_learning import testers, trainers
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from .pml_runs import NUM_CLASSES, SIZE, memvir, networks, optimizers, run, steps


@pytest.fixture
def recorded(train_set, test_set, tmp_path):
    """A run with PML's hooks: CSV, sqlite, TensorBoard, saved models, testing."""
    record_keeper, _, writer = logging_presets.get_record_keeper(
        str(tmp_path / "records"), str(tmp_path / "tensorboard")
    )
    hooks = logging_presets.get_hook_container(
        record_keeper, primary_metric="precision_at_1", log_freq=1
    )
    tester = testers.GlobalEmbeddingSpaceTester(
        end_of_testing_hook=hooks.end_of_testing_hook,
        dataloader_num_workers=0,
        accuracy_calculator=AccuracyCalculator(k="max_bin_count"),
    )
    loss = memvir(warmup_steps=2)
    trainer = run(
        trainers.MetricLossOnly,
        train_set,
        {"metric_loss": loss},
        end_of_iteration_hook=hooks.end_of_iteration_hook,
        end_of_epoch_hook=hooks.end_of_epoch_hook(
            tester, {"val": test_set}, str(tmp_path / "models")
        ),
    )
    writer.flush()
    return tmp_path, hooks, tester, loss, trainer


def test_hooks_and_records(recorded):
    folder, hooks, tester, loss, trainer = recorded
    virtual = [0, 0, 0, 0, NUM_CLASSES, NUM_CLASSES]
    virtual += [2 * NUM_CLASSES] * (steps(trainer) - len(virtual))

    with (folder / "records" / "metric_loss_MemVir.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["num_virtual_classes"]) for row in rows] == virtual
    settings = {"num_steps": "2", "step_gap": "1", "warmup_steps": "2"}
    assert all(settings.items() <= row.items() for row in rows)

    with sqlite3.connect(folder / "records" / "logs.db") as database:
        query = "SELECT num_virtual_classes FROM metric_loss_MemVir ORDER BY id"
        assert [value for (value,) in database.execute(query)] == virtual

    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("metric_loss_MemVir/num_virtual_classes")
    assert [event.value for event in scalars] == virtual

    accuracies = hooks.get_accuracy_history(
        tester, "val", metrics=["precision_at_1", "r_precision"]
    )
    assert accuracies["epoch"] == [1, 2]
    assert all(0 <= value <= 1 for value in accuracies["r_precision_level0"])


def test_the_memory_is_invisible_to_record_keeper(recorded):
    """Nothing is recorded of MemVir but its settings and what PML's loss records."""
    folder, hooks, _, loss, trainer = recorded
    names = {path.stem for path in (folder / "records").glob("*loss_MemVir*.csv")}
    assert names == {
        "metric_loss_MemVir",
        "metric_loss_MemVir__modules_loss_NormSoftmax",
    }
    hooks.record_keeper.update_records(
        {"metric_loss": loss}, 0, recursive_types=[torch.nn.Module, dict]
    )
    buffered = hooks.record_keeper.record_writer.records
    sizes = {
        f"{group}/{name}": np.size(value)
        for group, series in buffered.items()
        for name, values in series.items()
        for value in values.values()
    }
    large = {name: size for name, size in sizes.items() if size > 1}
    assert large == {"loss_NormSoftmax__parameters/W": SIZE * NUM_CLASSES}


def test_saved_models_bring_the_memory_back(recorded, train_set):
    folder, hooks, _, loss, trainer = recorded
    other = trainers.MetricLossOnly(
        models=networks(),
        optimizers=optimizers(metric_loss=(fresh := memvir(warmup_steps=2))),
        batch_size=16,
        loss_funcs={"metric_loss": fresh},
        dataset=train_set,
        dataloader_num_workers=0,
    )
    epoch = hooks.load_latest_saved_models(other, str(folder / "models"))
    assert epoch == 3
    assert fresh.step == loss.step
    assert torch.equal(fresh.W, loss.W)
    mine, theirs = fresh.virtual_classes(), loss.virtual_classes()
    assert mine.steps == theirs.steps
    assert torch.equal(mine.class_weights, theirs.class_weights)
    assert torch.equal(mine.embeddings, theirs.embeddings)
