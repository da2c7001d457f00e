"""Tables that a study's file asks for: what a row and a column say, looked up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import pandas as pd

from pml_memvir import MemVir

from ..report import cells
from ..report.cells import NONE
from ..report.names import metric_name
from ..report.runs import Runs
from ..report.selection import select
from ..report.statistics import LEVEL, Summary, paired_difference, summarize
from ..report.tables import last_insights
from .errors import NotPicked, StudyError
from .settings import Context, filled, found
from .study import Study

PICKED = "best_on_validation"
Column = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """What a cell is about: values by seed of an arm, and of another one."""

    arm: pd.Series
    other: pd.Series

    def common(self, of: pd.Series) -> list[float]:
        return list(of[self.arm.index.intersection(self.other.index)])

    def difference(self, level: float = LEVEL) -> Summary:
        return paired_difference(self.arm, self.other, level)


class Tables:
    """The tables of a study, made of what has been measured so far."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._values: dict[tuple[str, int | None], dict[tuple[str, str], pd.Series]] = (
            {}
        )

    @cached_property
    def runs(self) -> Runs | None:
        return self.study.results.all(self.study.folders)

    def sections(
        self, node: Mapping[str, Any], outer: Context | None = None
    ) -> dict[str, pd.DataFrame]:
        """By heading; without tables of no rows."""
        made: dict[str, pd.DataFrame] = {}
        place = f"{self.study.file.name}, sections"
        for context in self.study.contexts(node, outer or {}, place):
            for inner in node.get("sections", ()):
                made |= self.sections(inner, context)
            if "rows" in node:
                table = self._table(node, context, place)
                if len(table):
                    words = [c["head"] for c in node.get("columns", ()) if "text" in c]
                    table.attrs["left"] = words
                    made[filled(node["heading"], context, place)] = table
        return made

    def _table(self, node: Column, outer: Context, place: str) -> pd.DataFrame:
        rows = self._rows(node["rows"], outer, place)
        columns = list(node.get("columns", ()))
        if "quarters" in node:
            columns += self._quarters([row for _, row in rows])
        heads = [node["head"], *(column["head"] for column in columns)]
        made = [
            [label, *(self._cell(column, context, node) for column in columns)]
            for label, context in rows
        ]
        table = pd.DataFrame(made, columns=heads)
        if "pivot" not in node or not made:
            return table
        over = [str(context[node["pivot"]]) for _, context in rows]
        wide = table.assign(over=over).pivot(index=heads[0], columns="over")[heads[1]]
        wide = wide[list(dict.fromkeys(over))].loc[list(dict.fromkeys(table[heads[0]]))]
        return wide.fillna(NONE).rename_axis(columns=None).reset_index()

    def _rows(
        self, sources: list[Column], outer: Context, place: str
    ) -> list[tuple[str, dict[str, Any]]]:
        """Labels and contexts; none of settings that are not picked yet."""
        rows = []
        for source in sources:
            try:
                for context in self.study.contexts(source, outer, place):
                    contexts = [context]
                    if "of" in source:
                        contexts = self._of_jobs(source, context, place)
                    rows += [(filled(source["label"], c, place), c) for c in contexts]
            except NotPicked:
                continue
        return rows

    def _of_jobs(
        self, source: Column, context: dict[str, Any], place: str
    ) -> list[dict[str, Any]]:
        """Of the experiments of a stage; `among` a pick, of that one alone."""
        of = filled(source["of"], context, place)
        jobs = self.study.arms(of, context, done=source.get("done", True))
        if "among" in source:
            picked = found(source["among"], context, place).experiment
            jobs = [job for job in jobs if job.key == picked]
        return [{**context, **j.context, "arm": j.key, "job": j} for j in jobs]

    def _quarters(self, rows: list[dict[str, Any]]) -> list[Column]:
        """Numbers of pairs, and differences until about each quarter of the training.

        In whole epochs, at least one, and always over the seeds that got to the end.
        """
        arms = [row["arm"] for row in rows]
        if self.runs is None or not arms:
            return []
        of = self.runs.only(arms)
        num_epochs = max(of.trials[of.trials.complete].num_epochs)
        first = of.values[of.values.epoch > 0].iloc[0]
        ends = [max(1, quarter * num_epochs // 4) for quarter in (1, 2, 3, 4)]
        columns: list[Column] = [
            {"head": "pairs", "show": "pairs", "until": num_epochs}
        ]
        for until in dict.fromkeys(ends):
            head = f"{until * first.step // first.epoch:,} steps"
            of_end = {"until": until, "seeds_until": num_epochs}
            columns.append({"head": head, "show": "difference", **of_end})
        return columns

    def _cell(self, column: Column, context: dict[str, Any], node: Column) -> str:
        """What a column says of a row; of several ways the first that can be."""
        job = context.get("job")
        if "only" in column and not (job and job.arm.startswith(column["only"])):
            return NONE
        for way in column.get("any", (column,)):
            same = [found(p, context, column["head"]) for p in way.get("if_equal", ())]
            if len(set(same)) > 1:
                continue
            text = self._shown({**column, **way}, context, node)
            if text != NONE:
                return text
        return NONE

    def _shown(self, column: Column, context: dict[str, Any], node: Column) -> str:
        place = f"{self.study.file.name}, column {column['head']!r}"
        if "text" in column:
            return filled(column["text"], context, place)
        if "format" in column:
            parts = {
                name: self._shown({"head": name, **part}, context, node)
                for name, part in column["of"].items()
            }
            return filled(column["format"], parts, place)
        show = SHOWN.get(column.get("show", "difference"))
        if show is None:
            raise StudyError(
                f"{place}: show must be one of {', '.join(SHOWN)}, got "
                f"{column['show']!r}"
            )
        return show(self, column, context, {**node, **column})

    def compared(self, column: Column, context: Context, settings: Column) -> Compared:
        """Of the row's arm and its baseline, unless the column says others."""
        place = f"{self.study.file.name}, column {column['head']!r}"
        arm = filled(column.get("arm", "{arm}"), context, place)
        minus = column.get("minus")
        if minus is not None:
            other = filled(minus, context, place)
        else:
            other = self._baseline(context)
        if arm == other:
            other = ""
        metric = metric_name(str(settings.get("metric", context.get("metric", ""))))
        selection = str(column.get("selection", PICKED))
        until, seeds = settings.get("until"), settings.get("seeds_until")
        values = [self.values(k, metric, selection, until, seeds) for k in (arm, other)]
        return Compared(*values)

    def values(
        self,
        key: str,
        metric: str,
        selection: str,
        until: int | None = None,
        seeds_until: int | None = None,
    ) -> pd.Series:
        """An experiment's by seed, of seeds that are complete; empty if there are none.

        Args:
            until: as if training had ended with this epoch.
            seeds_until: of seeds that got to this one.
        """
        found_ = self._by_cell(selection, until).get((key, metric))
        if found_ is None:
            return pd.Series(dtype=float)
        if seeds_until is not None:
            there = self._by_cell(selection, seeds_until).get((key, metric))
            found_ = found_[
                found_.index.intersection([] if there is None else there.index)
            ]
        return found_

    def _by_cell(
        self, selection: str, until: int | None
    ) -> dict[tuple[str, str], pd.Series]:
        if self.runs is None:
            return {}
        if (selection, until) not in self._values:
            runs = self.runs if until is None else self.runs.until(until, strict=False)
            metrics = sorted(set(runs.values.metric))
            chosen = select(runs, selection, metrics)
            complete = runs.seeds.complete
            of_seed = pd.MultiIndex.from_frame(chosen[["experiment", "seed"]])
            chosen = chosen[of_seed.isin(complete.index[complete.astype(bool)])]
            by = ["experiment", "metric"]
            self._values[selection, until] = {
                cell: of.groupby("seed").value.mean()
                for cell, of in chosen.groupby(by, sort=False)
            }
        return self._values[selection, until]

    def _baseline(self, context: Context) -> str:
        """Among the runs of its own folder, else of the first that has it."""
        job = context.get("job")
        if job is None or job.baseline is None:
            return ""
        for folder in [job.folder, *self.study.folders]:
            key = f"{folder}/{job.baseline}"
            if self.runs is not None and key in self.runs.experiments.index:
                return key
        return ""

    @cached_property
    def seen(self) -> dict[tuple[str, str], float]:
        return {} if self.runs is None else last_insights(self.runs)


def _pairs(tables: Tables, column: Column, context: Context, settings: Column) -> str:
    n = tables.compared(column, context, settings).difference().n
    return str(n) if n else NONE


def _mean_of(which: str) -> Callable[..., str]:
    def mean(tables: Tables, column: Column, context: Context, settings: Column) -> str:
        of = tables.compared(column, context, settings)
        values = of.common(getattr(of, which))
        return cells.percent(statistics.fmean(values)) if values else NONE

    return mean


def _own(tables: Tables, column: Column, context: Context, settings: Column) -> str:
    """Over all seeds of the arm, whatever others have."""
    return cells.percent(
        summarize(list(tables.compared(column, context, settings).arm)).mean
    )


def _difference(
    tables: Tables, column: Column, context: Context, settings: Column
) -> str:
    level = 1 - (1 - LEVEL) / column.get("comparisons", 1)  # Bonferroni's correction
    of = tables.compared(column, context, settings)
    return cells.difference(of.difference(level))


def _holds(tables: Tables, column: Column, context: Context, settings: Column) -> str:
    """Ahead of its baseline, and not told from the arm that it should be as good as."""
    level = 1 - (1 - LEVEL) / column.get("comparisons", 1)
    ahead = tables.compared(column, context, settings).difference(level)
    other = {**column, "minus": column["as"]}
    delta = tables.compared(other, context, settings).difference(LEVEL)
    if ahead.low is None or delta.low is None or math.isnan(ahead.low):
        return NONE
    if filled("{arm}", context, "arm") == filled(column["as"], context, "as"):
        return NONE
    return "yes" if ahead.low > 0 and not delta.excludes_zero else "no"


def _seen(tables: Tables, column: Column, context: Context, settings: Column) -> str:
    """What MemVir saw in the last epoch, a mean over seeds."""
    arm = filled(column.get("arm", "{arm}"), context, "arm")
    number = tables.seen.get((arm, column["name"]))
    return NONE if number is None else f"{number:.{column.get('decimals', 2)}f}"


def _nbytes(tables: Tables, column: Column, context: Context, settings: Column) -> str:
    """Of MemVir's memory, in MB; where its settings are all that this depends on."""
    runs = tables.runs
    if runs is None or context["arm"] not in runs.experiments.index:
        return NONE
    losses = runs.experiments.config[context["arm"]].get("loss_funcs", {})
    memvir = losses.get("metric_loss", {}).get("MemVir", {})
    known = set(signature(MemVir.estimate_nbytes).parameters)
    given = {k: v for k, v in memvir.items() if k not in ("loss", "warmup_epochs")}
    if not given or set(given) - known:
        return NONE
    sizes = {k: v for k, v in column.items() if k in known}
    if "ProxyAnchorLoss" in memvir.get("loss", {}):
        sizes["algorithm"] = "proxy_anchor"
    return f"{MemVir.estimate_nbytes(**given, **sizes) / 1e6:,.1f}"


SHOWN: dict[str, Callable[..., str]] = {
    "pairs": _pairs,
    "minus": _mean_of("other"),
    "arm": _mean_of("arm"),
    "own": _own,
    "difference": _difference,
    "holds": _holds,
    "seen": _seen,
    "megabytes": _nbytes,
}
