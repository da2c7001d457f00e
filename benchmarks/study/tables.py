"""Tables that a study's file asks for, looked up in what has been measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import pandas as pd

from ..errors import NotPicked
from ..report.cells import NONE
from ..report.runs import Runs
from ..report.selection import select
from ..report.tables import last_insights
from .cells import Cell
from .settings import Context, filled, found
from .study import Study

Node = Mapping[str, Any]


class Tables:
    """The tables of a study."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._by_cell = cache(self._selected)
        self.seen = cache(self._seen)

    @cached_property
    def runs(self) -> Runs | None:
        return self.study.results.all(self.study.folders)

    def sections(
        self, node: Node, outer: Context | None = None
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
                    if node.get("figure"):
                        table.attrs["figure"] = filled(node["figure"], context, place)
                        table.attrs["against"] = node.get("against")
                    made[filled(node["heading"], context, place)] = table
        return made

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
        none = pd.Series(dtype=float)
        values = self._by_cell(selection, until).get((key, metric), none)
        if seeds_until is None:
            return values
        there = self._by_cell(selection, seeds_until).get((key, metric), none)
        return values[values.index.intersection(there.index)]

    def baseline(self, context: Context) -> str:
        """Among the runs of its own folder, else of the first that has it."""
        job = context.get("job")
        if job is not None and job.baseline is not None and self.runs is not None:
            for folder in [job.folder, *self.study.folders]:
                if (key := f"{folder}/{job.baseline}") in self.runs.experiments.index:
                    return key
        return ""

    def _table(self, node: Node, outer: Context, place: str) -> pd.DataFrame:
        rows = self._rows(node["rows"], outer, place)
        columns = list(node.get("columns", ()))
        if node.get("quarters"):
            columns += self._quarters([context["arm"] for _, context in rows])
        heads = [node["head"], *(column["head"] for column in columns)]
        of_table = {k: v for k, v in node.items() if k in ("metric", "until")}
        made = [
            [label, *(Cell(self, of_table | c, context).text() for c in columns)]
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
        self, sources: list[Node], outer: Context, place: str
    ) -> list[tuple[str, dict[str, Any]]]:
        """Labels and contexts; none of settings that are not picked yet."""
        rows = []
        for source in sources:
            try:
                for context in self.study.contexts(source, outer, place):
                    contexts = [context]
                    if "of" in source:
                        contexts = self._of_jobs(source, context, place)
                    if "until" in source:
                        contexts = [{**c, "until": source["until"]} for c in contexts]
                    rows += [(filled(source["label"], c, place), c) for c in contexts]
            except NotPicked:
                continue
        return rows

    def _of_jobs(
        self, source: Node, context: dict[str, Any], place: str
    ) -> list[dict[str, Any]]:
        """Of the experiments of a stage; `among` a pick, of that one alone."""
        of = filled(source["of"], context, place)
        jobs = self.study.arms(of, context, done=source.get("done", True))
        if "among" in source:
            picked = found(source["among"], context, place).experiment
            jobs = [job for job in jobs if job.key == picked]
        return [{**context, **j.context, "arm": j.key, "job": j} for j in jobs]

    def _quarters(self, arms: list[str]) -> list[Node]:
        """Numbers of pairs, and differences until about each quarter of the training.

        In whole epochs, at least one, and always over the seeds that got to the end.
        """
        if self.runs is None or not arms:
            return []
        of = self.runs.only(arms)
        num_epochs = max(of.trials[of.trials.complete].num_epochs)
        first = of.values[of.values.epoch > 0].iloc[0]
        ends = [max(1, quarter * num_epochs // 4) for quarter in (1, 2, 3, 4)]
        pairs = {"head": "pairs", "show": "pairs", "until": num_epochs}
        return [
            pairs,
            *(
                {
                    "head": f"{until * first.step // first.epoch:,} steps",
                    "until": until,
                    "seeds_until": num_epochs,
                }
                for until in dict.fromkeys(ends)
            ),
        ]

    def _until(self, until: int | None) -> Runs | None:
        if self.runs is None or until is None:
            return self.runs
        return self.runs.until(until, strict=False)

    def _seen(self, until: int | None) -> dict[tuple[str, str], float]:
        """What MemVir saw at the end of training, by experiment and name."""
        runs = self._until(until)
        return {} if runs is None else last_insights(runs)

    def _selected(
        self, selection: str, until: int | None
    ) -> dict[tuple[str, str], pd.Series]:
        """By experiment and metric."""
        if (runs := self._until(until)) is None:
            return {}
        chosen = select(runs, selection, sorted(set(runs.values.metric)))
        cells = runs.of_complete(chosen).groupby(["experiment", "metric"], sort=False)
        return {cell: of.groupby("seed").value.mean() for cell, of in cells}
