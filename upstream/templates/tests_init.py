"""What PML's tests take from their package; PML's own file is not in its sdist."""

import os

import torch

TEST_DTYPES = [
    getattr(torch, name)
    for name in os.environ.get("TEST_DTYPES", "float32,float64").split(",")
]
TEST_DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))
