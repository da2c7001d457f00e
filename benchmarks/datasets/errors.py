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


def of_a_worker(message: str) -> str:
    """What it says without the traceback that PyTorch's loaders put before it."""
    if not message.startswith("Caught DatasetError in DataLoader worker"):
        return message
    return message.rpartition("DatasetError: ")[2].strip()
