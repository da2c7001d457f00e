"""Experiments as folders of made-up accuracies, and what is read off their reports."""

import csv
import io
import json

from rich.console import Console

from benchmarks.report import run

R1, RP, MAP = "precision_at_1", "r_precision", "mean_average_precision_at_r"


def history(seed, points, fold=None, num_epochs=None, **changes):
    """`points`: by epoch, (Recall@1, MAP@R) on the test split, then on validation."""
    epochs = []
    for epoch, values in points.items():
        splits = {"test": {R1: values[0], RP: values[0] / 2, MAP: values[1]}}
        if len(values) > 2:
            splits["val"] = {MAP: values[2]}
        epochs.append({"epoch": epoch, "step": 10 * epoch, "loss": 1.0})
        epochs[-1]["splits"] = splits
    last = max(points) if num_epochs is None else num_epochs
    return {
        "format": 1,
        "seed": seed,
        "fold": fold,
        "num_epochs": last,
        "finished": max(points) == last,
        "stopped_early": False,
        "primary_metric": MAP,
        "validation": "val" if "val" in epochs[-1]["splits"] else None,
        "test": "test",
        "epochs": epochs,
        **changes,
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def experiment(root, name, histories, baseline="null", source="official", config=""):
    """An experiment folder of these histories, and more of a config."""
    folder = root / name
    folder.mkdir(parents=True)
    text = f"experiment_name: {name}\nbaseline: {baseline}\nsource: {source}\n"
    (folder / "config.yaml").write_text(text + config)
    versions = {"torch": "2.9.9", "pytorch-metric-learning": "2.9.0", "pml_memvir": "7"}
    environment = {"versions": versions, "git": {"revision": "ab" * 20, "dirty": True}}
    write(folder / "environment.json", environment)
    for one in histories:
        place = folder / f"seed{one['seed']}"
        if one["fold"] is not None:
            place /= f"fold{one['fold']}"
        write(place / "history.json", one)
    return folder


def of_values(*values):
    """A seed a value: Recall@1 of the one epoch; seeds from 0."""
    return [history(seed, {1: (v, v / 4)}) for seed, v in enumerate(values)]


def pair(root, plain, memvir, dataset="cars196", loss="softmax", **kwargs):
    base = f"{dataset}/{loss}"
    experiment(root, base, plain)
    experiment(root, f"{base}_memvir", memvir, base, **kwargs)
    return root


def report(root, tmp_path, **kwargs):
    """What `run` returns, and all that it has written and printed, by name."""
    console = Console(record=True, width=60, file=io.StringIO())
    output = tmp_path / "written"
    result = run([root], output, console, **kwargs)
    files = {p.name: p for p in output.iterdir()}
    text = {n: p.read_text() for n, p in files.items() if p.suffix != ".png"}
    return result, text | {"terminal": console.export_text()}, files


def numbers(report, experiment, metric=R1, selection="last", kind="single"):
    """The mean of an arm, and its difference to its baseline."""
    dataset = report.runs.experiments.dataset[experiment]
    return report.numbers(dataset, selection, experiment, kind, metric)


def rows(markdown, heading):
    """The cells of a section's table."""
    section = markdown.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def records(text):
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


POINTS = {  # (Recall@1, MAP@R, MAP@R on validation); epoch 0 is the best of all
    0: (0.99, 0.99, 0.99),
    5: (0.60, 0.30, 0.20),
    10: (0.70, 0.20, 0.40),
    15: (0.70, 0.30, 0.40),
    20: (0.50, 0.10, 0.10),
}
