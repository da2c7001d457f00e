"""What the examples share: options, letters as data, a small network, a test.

In your own project these are yours. MemVir asks one thing of the data: that training
labels are 0 to C-1.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `benchmarks` comes with a checkout, not with pip

from benchmarks.datasets.glyphs import Glyphs  # noqa: E402
from benchmarks.networks import SmallConvNet, UnitEmbedder  # noqa: E402

EMBEDDING_SIZE = 64
BATCH_SIZE = 64
METRICS = {
    "Recall@1": "precision_at_1",
    "MAP@R": "mean_average_precision_at_r",
}


def parse(doc: str | None, **options: int | Path) -> argparse.Namespace:
    """The options of the command line: those given, with defaults, and two for all."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    for name, default in options.items():
        option = "--" + name.replace("_", "-")
        parser.add_argument(
            option, type=type(default), default=default, help=f"default: {default}"
        )
    parser.add_argument(
        "--classes", type=int, help="of the letters use so few, to try things out"
    )
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "glyphs")
    return parser.parse_args()


@dataclass(frozen=True)
class Data:
    """Letters: images (1, 32, 32) and labels, 0 to `num_classes` - 1 in training.

    No class that is tested on is trained on: training letters are Latin, those of the
    test Greek, Cyrillic, Armenian and Georgian.
    """

    train: TensorDataset
    test: TensorDataset
    num_classes: int


def load(options: argparse.Namespace, verbose: bool = True) -> Data:
    """The data; drawn first, once, in some ten seconds."""
    sets = [Glyphs(options.data, split) for split in ("train", "test")]
    train, test = (_as_tensors(glyphs, options.classes) for glyphs in sets)
    data = Data(train, test, len(train.tensors[1].unique()))
    if verbose:
        print(
            f"{len(train)} images of {data.num_classes} letters to train on, "
            f"{len(test)} of {len(test.tensors[1].unique())} others to test on"
        )
    return data


def _as_tensors(glyphs: Glyphs, num_classes: int | None) -> TensorDataset:
    """Ink 1 and paper 0; of the first classes, counted from 0."""
    labels = torch.from_numpy(np.unique(glyphs.labels, return_inverse=True)[1])
    keep = labels < (num_classes or len(labels))
    images = 1 - torch.from_numpy(glyphs.images)[keep, None].float() / 255
    return TensorDataset(images, labels[keep])


def make_network(embedding_size: int = EMBEDDING_SIZE) -> nn.Sequential:
    """A trunk and an embedder: images (B, 1, 32, 32) to embeddings of unit length."""
    return nn.Sequential(SmallConvNet(128), UnitEmbedder(128, embedding_size))


def evaluate(network: nn.Module, dataset: Dataset) -> dict[str, float]:
    """Each image looks for others of its class: percentages, printed and returned."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with torch.no_grad():
        batches = [(network(x.to(device)), y) for x, y in DataLoader(dataset, 256)]
    network.train(was_training)
    embeddings, labels = (torch.cat(parts) for parts in zip(*batches))
    return accuracies(embeddings, labels.to(device))


def accuracies(embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """PML's, in percent, of embeddings (R, D) and labels (R,); printed and returned."""
    calculator = AccuracyCalculator(include=tuple(METRICS.values()), k="max_bin_count")
    values = calculator.get_accuracy(embeddings, labels)
    result = {name: 100 * values[metric] for name, metric in METRICS.items()}
    print("test:", ", ".join(f"{name} {value:.2f}" for name, value in result.items()))
    return result
