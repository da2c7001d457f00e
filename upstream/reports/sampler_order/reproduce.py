"""MPerClassSampler and FixedSetOfTriplets: a resumed run, against one that goes on."""

from __future__ import annotations

import sys

import numpy as np
from pytorch_metric_learning.samplers import FixedSetOfTriplets, MPerClassSampler
from torch.utils.data import Sampler

labels = np.repeat(np.arange(6), 4)


def m_per_class() -> Sampler:
    return MPerClassSampler(labels, m=2, batch_size=4, length_before_new_iter=8)


def triplets() -> Sampler:
    return FixedSetOfTriplets(labels, num_triplets=4)


faulty = False
for make in (m_per_class, triplets):
    np.random.seed(0)
    going_on = make()
    list(going_on)  # epoch 1
    checkpoint = np.random.get_state()  # all the random state that PML draws from
    expected = [int(index) for index in going_on]  # epoch 2

    np.random.seed(0)  # the program starts anew, as it did
    resumed = make()
    np.random.set_state(checkpoint)
    actual = [int(index) for index in resumed]  # epoch 2

    print(f"{type(going_on).__name__}, epoch 2")
    print(f"  expected {expected}\n  actual   {actual}")
    faulty |= expected != actual
sys.exit(int(faulty))
