"""What commands print to: text as it is, as names of runs and files have brackets."""

from __future__ import annotations

from rich.console import Console


def plain_console() -> Console:
    """A console without markup: rich would take [v1] in a name for a style."""
    return Console(markup=False)
