"""CPU autocast: what becomes of the class weights."""

from __future__ import annotations

import sys

import torch
from pytorch_metric_learning import losses

torch.manual_seed(0)
CLASSES, SIZE = 4, 8
LOSSES = {
    "W": [
        losses.NormalizedSoftmaxLoss(CLASSES, SIZE),
        losses.LargeMarginSoftmaxLoss(CLASSES, SIZE),
        losses.SphereFaceLoss(CLASSES, SIZE),
        losses.CosFaceLoss(CLASSES, SIZE),
        losses.ArcFaceLoss(CLASSES, SIZE),
        losses.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=SIZE),
    ],
    "proxies": [
        losses.ProxyNCALoss(CLASSES, SIZE),
        losses.ProxyAnchorLoss(CLASSES, SIZE),
    ],
    "fc": [losses.SoftTripleLoss(CLASSES, SIZE)],
    "weight": [losses.P2SGradLoss(SIZE, CLASSES)],
}

network = torch.nn.Linear(SIZE, SIZE)
images, labels = torch.randn(16, SIZE), torch.arange(16) % CLASSES
faulty = False
print(f"{'loss':24}{'expected':16}{'actual':16}largest change of a weight")
for name, group in LOSSES.items():
    for loss in group:
        weight = getattr(loss, name)
        before = weight.detach().clone()
        error = ""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            try:
                loss(network(images), labels)  # no backward, no optimizer
            except AssertionError:
                error = ", AssertionError"
        change = (weight.detach() - before).abs().max().item()
        faulty |= weight.dtype != before.dtype or bool(error)
        dtypes = f"{before.dtype!s:16}{weight.dtype!s:16}"
        print(f"{type(loss).__name__:24}{dtypes}{change:.0e}{error}")
sys.exit(int(faulty))
