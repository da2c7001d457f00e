"""Is a data set on disk whole and sound? All that is wrong, not only the first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import ImageMode
from rich.console import Console
from rich.progress import track

from ..console import plain_console
from ..report.markdown import as_table
from .decoding import read_image
from .errors import DatasetError
from .images import ImageFiles, counts
from .prepare import DATASETS


@dataclass
class Row:
    """What was found of a split; None where that could not be told."""

    split: str
    expected_classes: int | None = None
    expected_images: int | None = None
    classes: int | None = None
    images: int | None = None
    greyscale: int | None = None  # images stored without colours
    problems: list[str] = field(default_factory=list)


def verify(
    name: str,
    root: Path,
    console: Console | None = None,
    decode: bool = True,
    datasets: Mapping[str, type[Any]] | None = None,
) -> list[Row]:
    """Check each split: counts, files, classes that training has not, and images.

    Args:
        name: of `datasets`.
        decode: read every image, on all cores.
        datasets: classes of data sets by name; default: those that can be prepared.

    Raises:
        DatasetError: the name is unknown. What is wrong with the data set is in the
            rows' `problems`.
    """
    datasets = DATASETS if datasets is None else datasets
    if name not in datasets:
        raise DatasetError(f"expected one of {', '.join(datasets)}, got {name!r}")
    cls, console = datasets[name], console or plain_console()
    are_files = issubclass(cls, ImageFiles)
    names = ("check_counts", "check_files") if are_files else ()
    unchecked: dict[str, Any] = dict.fromkeys(names, False)
    rows: list[Row] = []
    of_training: set[int] = set()
    for split in [split for split in cls.SPLITS if "+" not in split]:
        row = Row(split, *cls.PUBLISHED.get(split, ()))
        rows.append(row)
        try:
            dataset = cls(root, split, **unchecked)
        except (ValueError, OSError) as error:
            row.problems.append(str(error))
            continue
        classes = set(dataset.labels)
        found = row.classes, row.images = len(classes), len(dataset)
        expected = cls.PUBLISHED.get(split, found)
        if found != expected:
            row.problems.append(f"expected {counts(*expected)}, found {counts(*found)}")
        missing = dataset.missing_files() if are_files else []
        row.problems += [f"{path} does not exist" for path in sorted(missing)]
        if decode:
            row.greyscale = 0
            modes, task = _modes(dataset, {*missing}), f"{name}, {split}"
            for mode in track(modes, task, len(dataset), console=console):
                if isinstance(mode, DatasetError):
                    row.problems.append(mode.problem)
                elif mode is not None:
                    row.greyscale += ImageMode.getmode(mode).basemode == "L"
        if split == "train":
            of_training = classes
        elif shared := of_training & classes:
            row.problems.append(f"{len(shared):,} of its classes are in train, too")
    return rows


def table(rows: list[Row]) -> str:
    """The rows' numbers, in Markdown; a dash where there is none."""
    numbers = [
        (r.classes, r.expected_classes, r.images, r.expected_images, r.greyscale)
        for r in rows
    ]
    heads = ["classes", "published", "images", "published", "grey", "problems"]
    cells = [
        [row.split, *("-" if n is None else f"{n:,}" for n in (*of, len(row.problems)))]
        for row, of in zip(rows, numbers)
    ]
    return as_table(pd.DataFrame(cells, columns=["split", *heads]))


def _modes(dataset: Any, missing: set[str]) -> Iterator[str | DatasetError | None]:
    """How each image is stored, or what is wrong with it; None of missing ones."""

    def mode(index: int) -> str | DatasetError | None:
        try:
            if not isinstance(dataset, ImageFiles):
                return str(dataset[index][0].mode)
            path = dataset.paths[index]
            return None if path in missing else read_image(path)[1]
        except DatasetError as error:
            return error

    # Only of files it is known that threads may read them at once.
    workers = (os.cpu_count() or 1) if isinstance(dataset, ImageFiles) else 1
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(mode, range(len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)
