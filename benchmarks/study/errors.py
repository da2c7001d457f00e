"""What can go wrong with a study."""

from __future__ import annotations


class StudyError(ValueError):
    """A study's file is wrong; says where, and what was expected."""


class NotPicked(Exception):
    """A setting is picked by runs that are not finished."""
