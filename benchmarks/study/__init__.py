"""The study in benchmarks/results/study: when does MemVir help? See its PROTOCOL.md."""

from __future__ import annotations

from .jobs import Job
from .reports import REPORTS, write_reports
from .runner import CORE_HOURS, overview, run
from .stages import STAGES

__all__ = [
    "CORE_HOURS",
    "REPORTS",
    "STAGES",
    "Job",
    "overview",
    "run",
    "write_reports",
]
