"""Short runs of PML's trainers on a few classes of Glyphs."""

import numpy as np
import torch

from benchmarks.datasets import Glyphs
from benchmarks.demo import to_tensor
from benchmarks.networks import SmallConvNet, UnitEmbedder
from pml_memvir import MemVir, losses

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


def few_glyphs(root, split):
    return FewGlyphs(Glyphs(root, split, transform=to_tensor))


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
