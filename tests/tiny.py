"""An experiment of a second: few small images, a small network, MemVir."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.config import Config, registry
from benchmarks.config.overlay import overlay
from benchmarks.config.schema import validated

SIZE = 12
CLASSES = {"train": range(8), "test": range(8, 12)}


class Tiny:
    """Noisy copies of one random picture a class; 7 images a class."""

    SPLITS = ("train", "test")
    PUBLISHED: dict[str, tuple[int, int]] = {}

    def __init__(self, split: str, transform: Any = None, noise: float = 60.0) -> None:
        self.transform = transform
        self.labels = [c for c in CLASSES[split] for _ in range(7)]
        self.images = []
        for index, label in enumerate(self.labels):
            picture = np.random.RandomState(label).uniform(0, 255, (SIZE, SIZE, 3))
            other = np.random.RandomState(1000 + index).normal(0, noise, picture.shape)
            self.images.append(np.clip(picture + other, 0, 255).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index])
        return self.transform(image), self.labels[index]


class TinyShop(Tiny):
    """The same, its test images cut into queries and a gallery."""

    SPLITS = ("train", "query", "gallery")

    def __init__(self, split: str, transform: Any = None) -> None:
        super().__init__("train" if split == "train" else "test", transform)
        if split != "train":
            keep = slice(0, None, 2) if split == "query" else slice(1, None, 2)
            self.labels, self.images = self.labels[keep], self.images[keep]


registry.register("dataset", Tiny)
registry.register("dataset", TinyShop)

ADAM = {"Adam": {"lr": 0.01}}
VALUES: dict[str, Any] = {
    "experiment_name": "tiny/norm_softmax_memvir",
    "dataset": {"Tiny": {}},
    "split_manager": {"PredefinedSplitManager": {}},
    "models": {
        "trunk": {"SmallConvNet": {"width": 8}},
        "embedder": {"UnitEmbedder": {"out_features": 6}},
    },
    "loss_funcs": {
        "metric_loss": {
            "MemVir": {
                "loss": {"NormSoftmax": {"scale": 10.0}},
                "num_steps": 2,
                "step_gap": 1,
                "warmup_epochs": 1,
            }
        }
    },
    "optimizers": {
        "trunk_optimizer": ADAM,
        "embedder_optimizer": {
            "Adam": {"lr": 0.01, "scheduler_by_epoch": {"StepLR": {"step_size": 2}}}
        },
        "metric_loss_optimizer": ADAM,
    },
    "trainer": {
        "MetricLossOnly": {
            "batch_size": 10,
            "dataloader_num_workers": 0,
            "drop_last": False,
        }
    },
    "tester": {
        "GlobalEmbeddingSpaceTester": {
            "batch_size": 50,
            "dataloader_num_workers": 0,
            "accuracy_calculator": {
                "AccuracyCalculator": {
                    "include": ["precision_at_1", "mean_average_precision_at_r"],
                    "k": "max_bin_count",
                }
            },
        }
    },
    "hook_container": {"SafeHookContainer": {"log_freq": 2}},
    "num_epochs_train": 4,
    "seeds": [0],
}


def config(changes: dict[str, Any] | None = None) -> Config:
    """The tiny experiment with changes laid over it."""
    return validated(overlay(copy.deepcopy(VALUES), changes or {}))
