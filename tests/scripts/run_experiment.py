"""The tiny experiment, to be killed and run again.

python -m tests.scripts.run_experiment FOLDER
"""

import sys
from pathlib import Path

import torch

from benchmarks.protocol.experiment import run

from .. import tiny

if __name__ == "__main__":
    torch.set_num_threads(1)
    run(tiny.config({"num_epochs_train": 12}), Path(sys.argv[1]), torch.device("cpu"))
