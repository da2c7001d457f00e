"""The study in benchmarks/results/study: when does MemVir help? See its PROTOCOL.md."""

from __future__ import annotations

from .runner import CORE_HOURS, overview, run
from .stages import STAGES, Job

__all__ = ["CORE_HOURS", "STAGES", "Job", "overview", "run"]
