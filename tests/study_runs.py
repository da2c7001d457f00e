"""Runs of the study: as they are configured, and what finished ones leave."""

import json

from benchmarks.config import load

MAP = "mean_average_precision_at_r"


def config(job, results):
    """As `run` loads it."""
    _, preset, *rest = job.arguments(results)
    files = [a.removeprefix("--with=") for a in rest if a.startswith("--with=")]
    return load(preset, files, [a for a in rest if not a.startswith("--")])


def finish(job, results, held_out=0.5, test=0.5, finished=True, memvir=()):
    """What a run of the job leaves: accuracies of three evaluations.

    The last one has what MemVir saw.
    """
    splits = [
        {"val": {MAP: value}, "test": {MAP: test}}
        for value in (0.0, held_out, held_out / 2)
    ]
    epochs = [
        {"epoch": n, "step": n, "loss": 1.0, "splits": s} for n, s in enumerate(splits)
    ]
    epochs[-1]["memvir"] = dict(memvir)
    content = {
        "seed": job.seed,
        "fold": 0,
        "num_epochs": 2,
        "primary_metric": MAP,
        "validation": "val",
        "test": "test",
        "epochs": epochs,
        "finished": finished,
    }
    folder = job.trial(results)
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(json.dumps(content))
