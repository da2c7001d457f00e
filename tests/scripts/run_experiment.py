"""The tiny experiment, to be killed and run again.

python -m tests.scripts.run_experiment FOLDER
"""

import sys
from pathlib import Path

import torch

from ..experiment_runs import run

LONGER = {"num_epochs_train": 12}

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), LONGER)
