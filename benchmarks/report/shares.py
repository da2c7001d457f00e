"""Whether arms gain where MemVir tells a class from its old copies."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from .structure import Insight, Section, SharePoint, Shares

SHARE = "share_of_actual_classes"
FEWEST = 4  # of fewer arms there is no rank correlation worth a number


def shares(
    sections: Sequence[Section], insights: Sequence[Insight], metric: str
) -> tuple[Shares, ...]:
    """Of each section with several arms that have a baseline and that share."""
    last = {one.label: one.lines[SHARE].y[-1] for one in insights if SHARE in one.lines}
    found = []
    for section in sections:
        points = tuple(
            SharePoint(
                result.loss.partition("+")[0], last[result.experiment], delta.mean
            )
            for result in section.results
            if result.accuracy != "concatenated" and result.experiment in last
            if (delta := result.differences.get(metric)) is not None
        )
        if len(points) >= FEWEST:
            found.append(
                Shares(section.dataset, section.selection, points, _ranked(points))
            )
    return tuple(found)


def _ranked(points: Sequence[SharePoint]) -> float | None:
    """Spearman's rank correlation; None if all shares or all differences are equal."""
    x, y = [p.share for p in points], [p.difference for p in points]
    if len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return float(stats.spearmanr(x, y).statistic)
