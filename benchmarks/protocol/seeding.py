"""Where random numbers begin."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def seed_everything(seed: int, fold: int | None, deterministic: bool) -> None:
    """Seed all generators; a fold has its own, so that its models start elsewhere."""
    if fold is not None:
        seed = int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
