"""Many runs in one file: a gzipped CSV table, a row a measured number.

`pandas.read_csv` reads it as it is. Columns are experiment, seed, fold, epoch, step,
split, metric and value. Training losses have the split "train", what MemVir said of its
steps "memvir"; what is known of a whole trial "trial", and texts of files "file".
Values are JSON, but for texts, so that a run can be unpacked again as it was.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import ReportError
from ..files import replacing, write_text
from .experiments import HISTORY, Place, Stored

SUFFIX = ".csv.gz"
COLUMNS = ("experiment", "seed", "fold", "epoch", "step", "split", "metric", "value")
FILE, TRIAL, TRAIN, MEMVIR = "file", "trial", "train", "memvir"
RESERVED = (FILE, TRIAL, TRAIN, MEMVIR)
Row = tuple[object, ...]


def write_pack(experiments: Mapping[str, Stored], file: Path) -> None:
    """Experiments by name, which are checked; the same ones make the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name in sorted(experiments):
        writer.writerows(_rows(name, experiments[name]))
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


def unpack_one(stored: Stored, folder: Path) -> None:
    """Write an experiment as the folder that it was, whole or not at all."""
    for name, text in stored.files.items():
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts or len(inner.parts) > 2:
            raise ReportError(f"{stored.place}: {name!r} is no file of an experiment")
    texts = dict(stored.files)
    for (seed, fold), history in stored.histories.items():
        trial = f"seed{seed}" if fold is None else f"seed{seed}/fold{fold}"
        texts[f"{trial}/{HISTORY}"] = json.dumps(history, indent=1) + "\n"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder.parent) as temporary:
        whole = Path(temporary, folder.name)
        for name, text in texts.items():
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(whole / name, text)
        whole.replace(folder)


def read_pack(file: Path) -> list[Stored]:
    """The experiments of a file.

    Raises:
        ReportError: it is no such file.
    """
    found: dict[str, Stored] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            csv.field_size_limit(2**28)
            rows = csv.reader(text)
            if tuple(next(rows, ())) != COLUMNS:
                raise ReportError(f"expected the columns {', '.join(COLUMNS)}")
            for name, *row in rows:
                _add(found.setdefault(name, Stored(file)), row)
    except Exception as error:  # a damaged file raises almost anything
        raise ReportError(f"{file} is no file of packed runs: {error}") from error
    return list(found.values())


def _rows(name: str, stored: Stored) -> Iterator[Row]:
    for path, text in stored.files.items():
        yield name, "", "", "", "", FILE, path, text
    for (seed, fold), history in stored.histories.items():
        trial = name, seed, "" if fold is None else fold
        for key, value in history.items():
            if key != "epochs":
                yield *trial, "", "", TRIAL, key, json.dumps(value)
        for entry in history["epochs"]:
            at = *trial, entry["epoch"], entry["step"]
            yield *at, TRAIN, "loss", json.dumps(entry.get("loss"))
            of_memvir = {MEMVIR: entry["memvir"]} if "memvir" in entry else {}
            for split, metrics in {**entry["splits"], **of_memvir}.items():
                for metric, value in metrics.items():
                    yield *at, split, metric, json.dumps(value)


def _add(stored: Stored, row: list[str]) -> None:
    """A row of the file to its experiment."""
    seed, fold, epoch, step, split, metric, text = row
    if split == FILE:
        stored.files[metric] = text
        return
    place: Place = int(seed), int(fold) if fold else None
    history: dict[str, Any] = stored.histories.setdefault(place, {})
    if place not in stored.begun:
        stored.begun.append(place)
    if split == TRIAL:
        history[metric] = json.loads(text)
        if metric == "test":  # where it is in the file that is written by a run
            history["epochs"] = []
        return
    epochs = history["epochs"]
    if not epochs or epochs[-1]["epoch"] != int(epoch):
        new = {"epoch": int(epoch), "step": int(step), "loss": None}
        epochs.append({**new, "splits": {}, MEMVIR: {}})
    entry = epochs[-1]
    if split == TRAIN:
        entry["loss"] = json.loads(text)
    elif split == MEMVIR:
        entry[MEMVIR][metric] = json.loads(text)
    else:
        entry["splits"].setdefault(split, {})[metric] = json.loads(text)
