"""CrossBatchMemory: a saved and loaded memory, against one that goes on."""

from __future__ import annotations

import sys

import torch
from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory

BATCH, SIZE, MEMORY = 4, 4, 16


def make() -> CrossBatchMemory:
    return CrossBatchMemory(ContrastiveLoss(), SIZE, memory_size=MEMORY)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(BATCH, SIZE), torch.arange(BATCH) % 2


torch.manual_seed(0)
faulty = False
for title, steps in [("half full", 2), ("full", 5)]:
    going_on = make()
    for _ in range(steps):
        going_on(*batch())

    restored = make()
    restored.load_state_dict(going_on.state_dict())
    same = torch.equal(restored.embedding_memory, going_on.embedding_memory)
    print(f"memory {title}, saved after {steps} steps; embeddings restored: {same}")
    for name in ("queue_idx", "has_been_filled"):
        expected, actual = getattr(going_on, name), getattr(restored, name)
        print(f"  {name:22} expected {expected!s:8} actual {actual}")

    following = batch()
    expected, actual = going_on(*following).item(), restored(*following).item()
    print(f"  loss of the next batch expected {expected:.4f}   actual {actual:.4f}")
    faulty |= abs(expected - actual) > 1e-6
sys.exit(int(faulty))
