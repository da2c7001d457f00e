"""What arms gain, beside how well MemVir told their classes from old copies."""

from __future__ import annotations

from collections.abc import Sequence

from .structure import ActualShares, Insight, Section, SharePoint

SHARE = "share_of_actual_classes"
FEWEST = 3  # arms, for a figure


def actual_shares(
    sections: Sequence[Section], insights: Sequence[Insight], metric: str
) -> tuple[ActualShares, ...]:
    """Of each section with several arms that have that share and a baseline.

    Not of best_on_test, whose differences are optimistic.
    """
    last = {one.label: one.last[SHARE] for one in insights if SHARE in one.last}
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
        if len(points) >= FEWEST and section.selection != "best_on_test":
            found.append(ActualShares(section.dataset, section.selection, points))
    return tuple(found)
