"""What a cell of a study's tables shows: a method for each `show` of a column."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import pandas as pd

from pml_memvir import MemVir

from ..errors import StudyError
from ..report import cells
from ..report.cells import NONE
from ..report.names import metric_name
from ..report.statistics import LEVEL, Summary, paired_difference
from .settings import Context, equal, filled

if TYPE_CHECKING:
    from .tables import Tables

PICKED = "best_on_validation"


@dataclass(frozen=True)
class Cell:
    """Of a table's row, whose context it has, and a column.

    Attributes:
        column: what the file says of it, and of the table where that says nothing.
    """

    tables: Tables
    column: Mapping[str, Any]
    context: Context

    def text(self) -> str:
        """Of several ways that a column has the first that can be shown."""
        job = self.context.get("job")
        only = self.column.get("only")
        if only is not None and not (job and f"{job.arm}.".startswith(f"{only}.")):
            return NONE
        for way in self.column.get("any", ({},)):
            if equal(way.get("if_equal", ()), self.context, self.place):
                text = self._changed(**way)._shown()
                if text != NONE:
                    return text
        return NONE

    def _shown(self) -> str:
        if "text" in self.column:
            return self._filled("text")
        if "format" in self.column:
            parts = {
                name: self._changed(format=None, head=name, **part)._shown()
                for name, part in self.column["of"].items()
            }
            return filled(self.column["format"], parts, self.place)
        show = self.column.get("show", "difference")
        if show not in SHOWN:
            raise StudyError(
                f"{self.place}: show must be one of {', '.join(SHOWN)}, got {show!r}"
            )
        return getattr(self, f"show_{show}")()

    def show_pairs(self) -> str:
        return str(self._difference().n or NONE)

    def show_minus(self) -> str:
        return self._mean(self._other)

    def show_arm(self) -> str:
        return self._mean(self._arm)

    def show_own(self) -> str:
        """Over all seeds of the arm, whatever others have."""
        return cells.percent(statistics.fmean(self._arm)) if len(self._arm) else NONE

    def show_difference(self) -> str:
        return cells.difference(self._difference())

    def show_holds(self) -> str:
        """Ahead of its baseline, and not told from the arm it should be as good as."""
        ahead = self._difference()
        delta = self._changed(minus=self.column["as"], comparisons=1)._difference()
        if ahead.low is None or delta.low is None or math.isnan(ahead.low):
            return NONE
        return "yes" if ahead.low > 0 and not delta.excludes_zero else "no"

    def show_seen(self) -> str:
        """What MemVir saw until the last evaluation, a mean over seeds."""
        seen = self.tables.seen(self._until)
        number = seen.get((self._key, self.column["name"]))
        return (
            NONE if number is None else f"{number:.{self.column.get('decimals', 2)}f}"
        )

    def show_megabytes(self) -> str:
        """Of MemVir's memory, where its settings are all that this depends on."""
        runs = self.tables.runs
        if runs is None or self.context["arm"] not in runs.experiments.index:
            return NONE
        losses = runs.experiments.config[self.context["arm"]].get("loss_funcs", {})
        memvir = losses.get("metric_loss", {}).get("MemVir", {})
        known = set(signature(MemVir.estimate_nbytes).parameters)
        given = {k: v for k, v in memvir.items() if k not in ("loss", "warmup_epochs")}
        if not given or set(given) - known:
            return NONE
        sizes = {k: v for k, v in self.column.items() if k in known}
        if "ProxyAnchorLoss" in memvir.get("loss", {}):
            sizes["algorithm"] = "proxy_anchor"
        return f"{MemVir.estimate_nbytes(**given, **sizes) / 1e6:,.1f}"

    @property
    def place(self) -> str:
        return f"{self.tables.study.file.name}, column {self.column['head']!r}"

    @property
    def _key(self) -> str:
        return filled(self.column.get("arm", "{arm}"), self.context, self.place)

    @property
    def _until(self) -> int | None:
        until: int | None = self.column.get("until", self.context.get("until"))
        return until

    @property
    def _arm(self) -> pd.Series:
        return self._values(self._key)

    @property
    def _other(self) -> pd.Series:
        """Of the arm's baseline, unless the column says another; never the arm."""
        if "minus" in self.column:
            key = self._filled("minus")
        else:
            key = self.tables.baseline(self.context)
        return self._values("" if key == self._key else key)

    def _values(self, key: str) -> pd.Series:
        metric = self.column.get("metric", self.context.get("metric", ""))
        return self.tables.values(
            key,
            metric_name(str(metric)),
            self.column.get("selection", PICKED),
            self._until,
            self.column.get("seeds_until"),
        )

    def _difference(self) -> Summary:
        # Bonferroni's correction
        level = 1 - (1 - LEVEL) / self.column.get("comparisons", 1)
        return paired_difference(self._arm, self._other, level)

    def _mean(self, of: pd.Series) -> str:
        """Over the seeds that both arms have."""
        values = of[self._arm.index.intersection(self._other.index)]
        return cells.percent(statistics.fmean(values)) if len(values) else NONE

    def _filled(self, key: str) -> str:
        return filled(self.column[key], self.context, self.place)

    def _changed(self, **changes: Any) -> Cell:
        column = {**self.column, **changes}
        column = {key: value for key, value in column.items() if value is not None}
        return Cell(self.tables, column, self.context)


SHOWN = [name[5:] for name in vars(Cell) if name.startswith("show_")]
