"""Studies: many runs that a file describes, and the tables that are made of them.

`study` knows the runs (`jobs`) of a file (`schema`), whose settings may be picked by
`results` of earlier ones; `runner` runs them, `tables` and `reports` tell of them.
"""

from __future__ import annotations

from ..errors import NotPicked, StudyError
from .reports import write_reports
from .runner import overview, run
from .study import Study

__all__ = ["NotPicked", "Study", "StudyError", "overview", "run", "write_reports"]
