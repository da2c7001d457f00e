"""What keeps the kit from making its patch."""

from __future__ import annotations


class KitError(Exception):
    """A message for the user: what was expected, what is there, what to do."""
