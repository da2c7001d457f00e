"""The real trainers of PML, on real images."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import miners, samplers, testers, trainers
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from pml_memvir import epochs_to_steps

from .pml_runs import (
    NUM_CLASSES,
    SIZE,
    assert_trained,
    memvir,
    networks,
    run,
    steps,
)


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


@pytest.mark.filterwarnings("ignore:MemVir is called in evaluation")
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
