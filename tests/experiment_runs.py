"""Short experiments, what they leave, and what kills them."""

import csv
import json
import os
from pathlib import Path

import torch

from benchmarks.protocol import experiment

from . import tiny

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 6  # 56 images, 10 a batch, the last one of 6
FOLDS = {
    "split_manager~OVERRIDE~": {
        "ClassDisjointSplitManager": {
            "num_training_partitions": 4,
            "num_training_sets": 2,
        }
    }
}


def run(tmp_path, changes=None):
    config = tiny.config(changes)
    return experiment.run(config, tmp_path, CPU)


def history(folder, *parts):
    return json.loads(folder.joinpath(*parts, "history.json").read_text())


def records(folder):
    """All CSV files of record-keeper, by name."""
    found = {}
    for path in sorted((folder / "records").glob("*.csv")):
        with path.open() as file:
            found[path.name] = list(csv.reader(file))
    return found


class Killed(BaseException):
    pass


def kill_at(monkeypatch, count):
    """Make the `count`-th renaming or linking of a file the last thing that happens."""
    calls = [0]

    def counted(function):
        def wrapped(*args, **kwargs):
            calls[0] += 1
            if calls[0] == count:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    for owner, name in ((os, "replace"), (os, "link"), (Path, "replace")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return calls
