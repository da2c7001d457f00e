"""Means over seeds, and differences between arms that share seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from scipy import stats

LEVEL = 0.95


class Summary(NamedTuple):
    """Of n numbers, one a seed. With one there is neither `sd` nor interval.

    Attributes:
        sd: the sample standard deviation (n - 1 in the denominator).
        low, high: a confidence interval of the mean, by Student's t.
    """

    n: int = 0
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        if self.low is None or self.high is None or math.isnan(self.low):
            return False
        return not self.low <= 0 <= self.high


def summarize(values: Sequence[float], level: float = LEVEL) -> Summary:
    """A mean that has a NaN in it is NaN, as is its interval."""
    n = len(values)
    if n == 0:
        return Summary()
    mean = statistics.fmean(values)
    if n == 1:
        return Summary(1, mean)
    sd = math.nan if math.isnan(mean) else statistics.stdev(values)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def paired_difference(
    arm: pd.Series, baseline: pd.Series, level: float = LEVEL
) -> Summary:
    """Of arm minus baseline, by seed; over the seeds that both have."""
    common = sorted(arm.index.intersection(baseline.index))
    return summarize([float(arm[s] - baseline[s]) for s in common], level)
