"""The one error of this package."""

from __future__ import annotations


class ReportError(ValueError):
    """A report cannot be made; says of which file or option, and what to do."""
