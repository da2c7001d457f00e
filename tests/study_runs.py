"""Runs of the study: as they are configured, and what finished ones leave."""

import json
from dataclasses import replace

from benchmarks.config import load, save
from benchmarks.protocol.history import History
from benchmarks.study import columns

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


def curve(job, results, values, share=None, num_epochs=None):
    """A run by (held-out, test) MAP@R, an epoch each; finished but for `num_epochs`.

    Recall@1 is half as much, R-Precision a quarter.
    """
    name = "share_of_actual_classes"
    last, before = ({}, {}) if share is None else ({name: share}, {name: 0.0})

    def metrics(value):
        return {m: value / 2**k for k, m in enumerate(columns.METRICS)}

    epochs = [
        {
            "epoch": n,
            "step": 1000 * n,
            "loss": 1.0,
            "memvir": last if n == len(values) else before,
            "splits": {
                "val": metrics(held_out),
                "test": metrics(test),
            },
        }
        for n, (held_out, test) in enumerate(values, 1)
    ]
    num_epochs = num_epochs or len(epochs)
    history = History(job.seed, 0, num_epochs, MAP, "val", "test")
    history.epochs, history.finished = epochs, len(epochs) == num_epochs
    folder = job.trial(results)
    folder.mkdir(parents=True)
    history.save(folder)
    of_job = replace(config(job, results), num_epochs_train=num_epochs)
    save(of_job, job.experiment(results) / "config.yaml")


def table_of(text, heading):
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
