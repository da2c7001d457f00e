"""ClassWeightedReducer with ProxyAnchorLoss: which weight each proxy's term gets."""

from __future__ import annotations

import sys

import torch
from pytorch_metric_learning.losses import ProxyAnchorLoss
from pytorch_metric_learning.reducers import ClassWeightedReducer, DoNothingReducer

torch.set_default_dtype(torch.float64)
CLASSES, SIZE = 3, 4
class_weights = torch.tensor([1.0, 10.0, 100.0])
torch.manual_seed(0)
loss = ProxyAnchorLoss(CLASSES, SIZE, reducer=ClassWeightedReducer(class_weights))
terms = ProxyAnchorLoss(CLASSES, SIZE, reducer=DoNothingReducer())
terms.proxies = loss.proxies


def expected(embeddings: torch.Tensor, labels: torch.Tensor) -> str:
    """Term number i is that of proxy i, which is of class i."""
    parts = terms(embeddings, labels)
    value = sum((class_weights * part["losses"]).mean() for part in parts.values())
    return f"{value.item():.4f}"


def actual(embeddings: torch.Tensor, labels: torch.Tensor) -> str:
    try:
        return f"{loss(embeddings, labels).item():.4f}"
    except IndexError as error:
        return f"IndexError: {error}"


embeddings, labels = torch.randn(6, SIZE), torch.tensor([0, 0, 1, 1, 2, 2])
faulty = False
for title, rows in [
    ("a batch", torch.arange(6)),
    ("the same batch in another order", torch.arange(5, -1, -1)),
    ("fewer rows than classes", torch.arange(2)),
]:
    want = expected(embeddings[rows], labels[rows])
    got = actual(embeddings[rows], labels[rows])
    print(f"{title}, labels {labels[rows].tolist()}")
    print(f"  expected {want}\n  actual   {got}")
    faulty |= want != got
sys.exit(int(faulty))
