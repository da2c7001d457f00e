"""The study in one table: differences of MemVir, a line a data set and loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, split_arm, split_name
from .columns import ABOUT, METRICS, PICKED, Cells, differences, table
from .compared import compared
from .controls import with_controls
from .follow_up import FOLLOW_UPS
from .pages import markdown
from .settings import REFERENCE
from .stages import finished, with_other_rates

ABOUT_SUMMARY = (
    "MemVir minus plain, test classes, at the epoch that is best on held-out classes. "
    "Own settings: of each arm. Equal rates: the plain loss has the learning rates of "
    "the arm with MemVir. The follow-ups: at the plain loss's rates; with few classes "
    f"{REFERENCE.label}, and half as many steps."
)


def summary_tables(results: Path) -> str:
    """A section a metric; "" if nothing is compared yet."""
    folders = dict(compared(results))
    sections = {}
    for metric in METRICS if folders else ():
        own = {of: _to_plain(results, of, metric) for of in folders}
        equal = {of: _at_equal_rates(results, of, metric, own[of]) for of in folders}
        columns = {"own settings": _joined(own), "equal rates": _joined(equal)}
        for stage, what in FOLLOW_UPS.items():
            columns[what] = _joined({"glyphs": _follow_up(results, stage, metric)})
        rows = [(f"{of}/{loss}", f"{of}, {loss}") for of in own for loss in own[of]]
        heading = f"summary, {metric_label(metric)}"
        sections[heading] = table("data set, loss", columns, rows)
    return markdown("Summary", sections, ABOUT, ABOUT_SUMMARY)


def _joined(by_dataset: Mapping[str, Cells]) -> Cells:
    return {
        f"{dataset}/{loss}": cell
        for dataset, cells in by_dataset.items()
        for loss, cell in cells.items()
    }


def _to_plain(results: Path, dataset: str, metric: str) -> Cells:
    return _with_memvir(_by_arm(results, metric, [f"main/{dataset}"]))


def _at_equal_rates(results: Path, dataset: str, metric: str, own: Cells) -> Cells:
    """Where both arms picked the same rates, the difference at their own settings."""
    others = {split_name(name)[1] for name, *_ in with_other_rates(dataset, results)}
    same = {loss: cell for loss, cell in own.items() if loss not in others}
    against = with_controls(dataset, results)
    if not against:
        return same
    folders = [f"controls/{dataset}", f"main/{dataset}"]
    found = _with_memvir(_by_arm(results, metric, folders, against))
    controlled = {split_arm(split_name(arm)[1])[0] for arm in against}
    return same | {loss: found[loss] for loss in controlled}


def _follow_up(results: Path, stage: str, metric: str) -> Cells:
    jobs = [job for job in finished(stage, results) if job.baseline]
    if not jobs:
        return {}
    found = _by_arm(results, metric, ["follow_up/glyphs", "main/glyphs"])
    arms = {split_name(job.name)[1] for job in jobs}
    return {arm.partition("_memvir")[0]: found[arm] for arm in arms}


def _by_arm(
    results: Path,
    metric: str,
    folders: list[str],
    against: Mapping[str, str] | None = None,
) -> Cells:
    """Differences over all pairs of each arm."""
    experiments = load([results / folder for folder in folders])
    return differences(build(experiments, (PICKED,), METRICS, against), PICKED, metric)


def _with_memvir(found: Cells) -> Cells:
    """Those of the arms of the comparison, by loss."""
    losses = {arm: split_arm(arm)[0] for arm in found}
    return {loss: found[arm] for arm, loss in losses.items() if arm == f"{loss}_memvir"}
