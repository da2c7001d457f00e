"""Means over seeds, and differences between arms that share seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Summary:
    """Of n numbers, one a seed. With one there is neither `sd` nor `interval`.

    Attributes:
        sd: the sample standard deviation (n - 1 in the denominator).
        interval: 95% confidence interval of the mean, by Student's t.
    """

    n: int
    mean: float
    sd: float | None
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        return self.interval is not None and not (
            self.interval[0] <= 0 <= self.interval[1]
        )


def summarize(values: Sequence[float]) -> Summary | None:
    """None of no values."""
    n = len(values)
    if n == 0:
        return None
    mean = statistics.fmean(values)
    if n == 1:
        return Summary(1, mean, None, None)
    sd = statistics.stdev(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, (mean - half, mean + half))


def paired_difference(
    arm: Mapping[int, float], baseline: Mapping[int, float]
) -> Summary | None:
    """Of arm minus baseline, over the seeds that both have; None if there is none."""
    common = sorted(arm.keys() & baseline.keys())
    return summarize([arm[seed] - baseline[seed] for seed in common])
