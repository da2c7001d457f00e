"""Tables and figures of finished experiments.

`runs` reads everything into tables, `build` computes a `Report` of them, and what is
left only writes: `markdown`, `page`, `latex`, `csv_files` and `figures`.
"""

from __future__ import annotations

from ..errors import ReportError
from .build import Report
from .names import METRICS
from .run import parse_baselines, run
from .selection import SELECTIONS

__all__ = ["METRICS", "SELECTIONS", "Report", "ReportError", "parse_baselines", "run"]
