"""Tables and figures of finished experiments.

Everything is read first (`experiments`, `history`), computed next (`build`, `curves`)
into a `Report`, and then written by modules that compute nothing (`tables`, `latex`,
`csv_files`, `figures`).
"""

from __future__ import annotations

from .errors import ReportError
from .names import METRICS
from .run import parse_baselines, run
from .selection import SELECTIONS
from .structure import Report

__all__ = ["METRICS", "SELECTIONS", "Report", "ReportError", "parse_baselines", "run"]
