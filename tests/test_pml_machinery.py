"""The real trainers, hooks and testers of PML, on real images."""

import csv
import sqlite3

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import miners, samplers, testers, trainers
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from benchmarks.datasets import Glyphs
from benchmarks.demo import to_tensor
from benchmarks.networks import SmallConvNet, UnitEmbedder
from pml_memvir import MemVir, epochs_to_steps, losses

NUM_CLASSES = 8
WIDTH = 16
SIZE = 12


class FewGlyphs(torch.utils.data.Subset):
    """The first classes of a split, labelled from 0."""

    def __init__(self, dataset, num_classes=NUM_CLASSES):
        labels = np.asarray(dataset.labels) - min(dataset.labels)
        indices = np.flatnonzero(labels < num_classes)
        super().__init__(dataset, indices.tolist())
        self.labels = labels[indices]

    def __getitem__(self, index):
        return super().__getitem__(index)[0], int(self.labels[index])

    def __getitems__(self, indices):
        return [self[index] for index in indices]


@pytest.fixture(scope="module")
def train_set(glyphs_root):
    return FewGlyphs(Glyphs(glyphs_root, "train", transform=to_tensor))


@pytest.fixture(scope="module")
def test_set(glyphs_root):
    return FewGlyphs(Glyphs(glyphs_root, "test", transform=to_tensor))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def memvir(size=SIZE, **kwargs):
    settings = {"num_steps": 2, "step_gap": 1, **kwargs}
    return MemVir(losses.NormSoftmax(NUM_CLASSES, size), **settings)


def networks(size=SIZE):
    return {"trunk": SmallConvNet(WIDTH), "embedder": UnitEmbedder(WIDTH, size)}


def optimizers(**modules):
    return {
        f"{name}_optimizer": torch.optim.Adam(module.parameters(), lr=0.01)
        for name, module in modules.items()
    }


def run(cls, dataset, loss_funcs, models=None, epochs=2, freeze_these=(), **kwargs):
    """Train, and return the trainer."""
    models = models or networks()
    with_weights = {k: v for k, v in loss_funcs.items() if list(v.parameters())}
    trained = {
        k: v for k, v in (models | with_weights).items() if k not in freeze_these
    }
    trainer = cls(
        models=models,
        optimizers=optimizers(**trained),
        batch_size=16,
        loss_funcs=loss_funcs,
        dataset=dataset,
        dataloader_num_workers=0,
        freeze_these=freeze_these,
        **kwargs,
    )
    trainer.train(num_epochs=epochs)
    return trainer


def steps(trainer, epochs=2):
    return trainer.iterations_per_epoch * epochs


def assert_trained(loss, num_steps, weight_before):
    assert loss.step == num_steps
    assert loss.num_virtual_classes == 2 * NUM_CLASSES
    assert loss.W.isfinite().all() and not torch.equal(loss.W, weight_before)


# ------------------------------------------------------------------- trainers


def test_metric_loss_only_with_a_tuple_miner(train_set):
    loss = memvir()
    before = loss.W.detach().clone()
    miner = {"tuple_miner": miners.MultiSimilarityMiner()}
    trainer = run(
        trainers.MetricLossOnly, train_set, {"metric_loss": loss}, mining_funcs=miner
    )
    assert_trained(loss, steps(trainer), before)


def test_metric_loss_only_with_a_subset_batch_miner(train_set):
    """The trainer switches everything to eval and back before each step."""
    sizes = []

    class FirstTen(miners.BaseMiner):
        def mine(self, embeddings, labels, ref_emb, ref_labels):
            return torch.arange(10)

        def output_assertion(self, output):
            sizes.append(len(output))

    loss = memvir()
    before = loss.W.detach().clone()
    miner = {"subset_batch_miner": FirstTen()}
    trainer = run(
        trainers.MetricLossOnly, train_set, {"metric_loss": loss}, mining_funcs=miner
    )
    assert_trained(loss, steps(trainer), before)
    assert len(sizes) == steps(trainer)
    assert loss.virtual_classes().batch_sizes == (10, 10)


def test_trainer_with_a_sampler_learns(train_set, test_set):
    """What a user would do; and it does learn the classes it is shown."""
    loss = memvir(warmup_steps=5)
    sampler = samplers.MPerClassSampler(train_set.labels, 2, 16, len(train_set))
    trainer = run(
        trainers.MetricLossOnly,
        train_set,
        {"metric_loss": loss},
        epochs=30,
        sampler=sampler,
    )
    tester = testers.GlobalEmbeddingSpaceTester(
        dataloader_num_workers=0,
        accuracy_calculator=AccuracyCalculator(include=("precision_at_1",), k=1),
    )
    accuracy = tester.test(
        {"train": train_set, "test": test_set}, 1, **models_of(trainer)
    )
    assert accuracy["train"]["precision_at_1_level0"] > 0.9
    assert accuracy["test"]["precision_at_1_level0"] > 2 / NUM_CLASSES


def models_of(trainer):
    return {f"{name}_model": trainer.models[name] for name in ("trunk", "embedder")}


def test_train_with_classifier(train_set):
    loss = memvir()
    before = loss.W.detach().clone()
    models = networks() | {"classifier": torch.nn.Linear(SIZE, NUM_CLASSES)}
    trainer = run(
        trainers.TrainWithClassifier,
        train_set,
        {"metric_loss": loss, "classifier_loss": torch.nn.CrossEntropyLoss()},
        models,
    )
    assert_trained(loss, steps(trainer), before)


def test_cascaded_embeddings(train_set):
    """A MemVir for each slice of the embedding, each with its own memory."""
    loss_funcs = {"metric_loss_0": memvir(5), "metric_loss_1": memvir(SIZE - 5)}
    before = {name: loss.W.detach().clone() for name, loss in loss_funcs.items()}
    trainer = run(
        trainers.CascadedEmbeddings,
        train_set,
        loss_funcs,
        embedding_sizes=[5, SIZE - 5],
    )
    for name, loss in loss_funcs.items():
        assert_trained(loss, steps(trainer), before[name])


class Pairs(torch.utils.data.Dataset):
    """Two images of one class and its label."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, label = self.dataset[index]
        other = np.flatnonzero(self.dataset.labels == label)[0]
        return image, self.dataset[other][0], label


@pytest.mark.parametrize("miner", [None, miners.TripletMarginMiner(margin=0.5)])
def test_two_stream(train_set, miner):
    loss = memvir()
    before = loss.W.detach().clone()
    trainer = run(
        trainers.TwoStreamMetricLoss,
        Pairs(train_set),
        {"metric_loss": loss},
        mining_funcs={"tuple_miner": miner} if miner else {},
    )
    assert_trained(loss, steps(trainer), before)
    assert loss.virtual_classes().batch_sizes == (32, 32)


def test_multiple_losses(train_set):
    loss = memvir()
    before = loss.W.detach().clone()
    both = pml.MultipleLosses([loss, pml.TripletMarginLoss()], weights=[1, 0.5])
    trainer = run(trainers.MetricLossOnly, train_set, {"metric_loss": both})
    assert_trained(loss, steps(trainer), before)


def test_frozen_loss(train_set):
    loss = memvir()
    before = loss.W.detach().clone()
    models = networks()
    trunk = models["trunk"][0].weight.detach().clone()
    run(
        trainers.MetricLossOnly,
        train_set,
        {"metric_loss": loss},
        models,
        freeze_these=("metric_loss",),
    )
    assert torch.equal(loss.W, before)
    assert not torch.equal(models["trunk"][0].weight, trunk)
    assert loss.step == 0 and loss.memory_nbytes == 0


def test_float64(train_set):
    loss = memvir()
    before = loss.W.detach().clone()
    models = {name: model.double() for name, model in networks().items()}
    trainer = run(
        trainers.MetricLossOnly,
        train_set,
        {"metric_loss": loss},
        models,
        dtype=torch.float64,
    )
    assert_trained(loss, steps(trainer), before.double())
    assert loss.W.dtype == loss.virtual_classes().class_weights.dtype == torch.float64


def test_gradient_clippers(train_set):
    loss = memvir()
    norms = []

    def clip():
        norms.append(float(torch.nn.utils.clip_grad_norm_(loss.parameters(), 1e-3)))
        norms.append(float(loss.W.grad.norm()))

    run(
        trainers.MetricLossOnly,
        train_set,
        {"metric_loss": loss},
        gradient_clippers={"metric_loss_grad_clipper": clip},
    )
    assert max(norms[::2]) > 1e-3 and max(norms[1::2]) < 1.001e-3


def test_warm_up_in_epochs_of_a_trainer(train_set):
    """PML's loader drops the last partial batch."""
    loss = memvir()
    trainer = trainers.MetricLossOnly(
        models=networks(),
        optimizers={},
        batch_size=24,
        loss_funcs={"metric_loss": loss},
        dataset=train_set,
        dataloader_num_workers=0,
    )
    assert len(train_set) % 24
    assert epochs_to_steps(3, trainer) == 3 * (len(train_set) // 24)
    loss.warmup_steps = epochs_to_steps(1, trainer)
    trainer.train(num_epochs=1)
    assert loss.step == loss.warmup_steps and loss.memory_nbytes == 0
    trainer.train(start_epoch=2, num_epochs=2)
    assert loss.num_virtual_classes > 0
    trainer.iterations_per_epoch = None
    trainer.sampler = samplers.MPerClassSampler(train_set.labels, 4, 24, 240)
    assert epochs_to_steps(3, trainer) == 30
    trainer.iterations_per_epoch = 7
    assert epochs_to_steps(3, trainer) == 21


def test_a_plain_loop(train_set):
    trunk, embedder = networks().values()
    loss = memvir()
    before = loss.W.detach().clone()
    parameters = [*trunk.parameters(), *embedder.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    loader = torch.utils.data.DataLoader(train_set, batch_size=16, shuffle=True)
    for _ in range(2):
        for images, labels in loader:
            optimizer.zero_grad()
            loss(embedder(trunk(images)), labels).backward()
            optimizer.step()
    assert_trained(loss, 2 * len(loader), before)


# ---------------------------------------------------------- hooks and records


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
