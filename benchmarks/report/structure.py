"""The report between reading and writing. All metrics are fractions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .published import Published
from .statistics import Summary


@dataclass(frozen=True)
class Value:
    """A seed's metric, and the epoch it is of; with folds one epoch a fold."""

    value: float
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """One arm in one section.

    Attributes:
        label: the arm's name in its data set.
        accuracy: "single", or with cross-validation "separated" or "concatenated".
        seeds: by seed, then by metric; None where it was not measured.
        unfinished: by seed, how far it is; these seeds are in no mean.
        summaries: by metric.
        baseline: the label of the arm that `differences` are to.
        differences: by metric, paired by seed.
        better: the metrics in which it is the better of a pair, and the 95% interval of
            the paired difference excludes 0.
    """

    experiment: str
    label: str
    loss: str
    memvir: bool
    accuracy: str
    seeds: Mapping[int, Mapping[str, Value | None]]
    unfinished: Mapping[int, str]
    summaries: Mapping[str, Summary | None]
    baseline: str | None
    differences: Mapping[str, Summary | None]
    better: frozenset[str]
    published: tuple[Published, ...]


@dataclass(frozen=True)
class Section:
    """All arms on one data set, by one selection."""

    dataset: str
    selection: str
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Record:
    """A line of the long CSV. `fold` is a number, "concatenated" or None."""

    experiment: str
    dataset: str
    loss: str
    memvir: bool
    seed: int
    fold: int | str | None
    selection: str
    epoch: int | None
    metric: str
    value: float


@dataclass(frozen=True)
class Line:
    """A metric over epochs or steps."""

    x: tuple[int, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """An arm's curves of one metric.

    Attributes:
        color: arms with the same number share a color.
        plain: the arm has no baseline, it is one.
        mean, low, high: over its finished seeds; None if there are none.
        seeds: a line a seed, unfinished ones too.
    """

    label: str
    color: int
    plain: bool
    mean: Line | None
    low: Line | None
    high: Line | None
    seeds: tuple[Line, ...]


@dataclass(frozen=True)
class Panels:
    """The curves of one data set, by metric.

    Attributes:
        about: a sentence on arms, seeds and epochs.
        versions: one on packages and code.
        logarithmic: schedules differ so much in length that x must be logarithmic.
    """

    dataset: str
    about: str
    versions: str
    x_label: str
    logarithmic: bool
    curves: Mapping[str, tuple[Curve, ...]]


@dataclass(frozen=True)
class Insight:
    """What MemVir saw in an arm's training, by the number's name.

    Attributes:
        lines: over steps: means over the trials that have got there.
        last: at the end of training: means over finished seeds.
    """

    label: str
    lines: Mapping[str, Line]
    last: Mapping[str, float]


@dataclass(frozen=True)
class SharePoint:
    """An arm: its share of actual classes at the end, and its difference."""

    loss: str
    share: float
    difference: float


@dataclass(frozen=True)
class ActualShares:
    """The arms of a section."""

    dataset: str
    selection: str
    points: tuple[SharePoint, ...]


@dataclass(frozen=True)
class Report:
    """Everything that is written.

    Attributes:
        metrics: names in history.json.
        protocol: sentences for the top of each file.
        notes: sentences for its end.
        insights: of the arms with MemVir.
        actual_shares: beside differences in the first metric, of several arms.
    """

    metrics: tuple[str, ...]
    protocol: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    records: tuple[Record, ...] = field(repr=False)
    panels: tuple[Panels, ...] = field(repr=False)
    insights: tuple[Insight, ...] = field(default=(), repr=False)
    actual_shares: tuple[ActualShares, ...] = field(default=(), repr=False)
