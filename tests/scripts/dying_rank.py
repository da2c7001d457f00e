"""Rank 1 dies in mid-training; rank 0 must notice."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from pml_memvir import MemVir, losses


def main(timeout: float) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    memvir = MemVir(losses.NormSoftmax(5, 4), 2, 0, gather=True)
    for step in range(6):
        if step == 3 and dist.get_rank() == 1:
            os._exit(1)
        memvir(torch.randn(3, 4).requires_grad_(), torch.arange(3)).backward()
        print(f"step {step}", flush=True)
