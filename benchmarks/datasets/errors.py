"""What goes wrong with data sets on disk."""

from ..errors import Mistake

WORKER = "Caught DatasetError in DataLoader worker"


class DatasetError(Mistake):
    """A data set that is missing, damaged, incomplete or not the published one.

    Args:
        problem: what was expected and what was found, with the path. PyTorch's loaders
            put a traceback before that of a worker, which is left out.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        if problem.startswith(WORKER):
            problem = problem.rpartition("DatasetError: ")[2].strip()
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
