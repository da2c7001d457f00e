"""What goes wrong with data sets on disk."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set that is missing, damaged, incomplete or not the published one.

    Args:
        problem: what was expected and what was found, with the path.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
