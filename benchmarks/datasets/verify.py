"""Is a data set on disk whole and sound? All that is wrong, not only the first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ImageMode
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ..console import plain_console
from .decoding import read_image
from .errors import DatasetError
from .images import ImageFiles, counts
from .prepare import DATASETS


@dataclass
class Row:
    """What was found of a split; None where that could not be told."""

    split: str
    classes: int | None = None
    images: int | None = None
    expected_classes: int | None = None
    expected_images: int | None = None
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
    cls = datasets[name]
    rows, classes = [], {}
    with Progress(console=console or plain_console()) as progress:
        for split in [split for split in cls.SPLITS if "+" not in split]:
            row = Row(split)
            row.expected_classes, row.expected_images = cls.PUBLISHED.get(
                split, (None, None)
            )
            rows.append(row)
            try:
                dataset = _construct(cls, root, split)
            except (ValueError, OSError) as error:
                row.problems.append(str(error))
                continue
            classes[split] = set(dataset.labels)
            _count(dataset, row)
            missing: set[str] = set()
            if isinstance(dataset, ImageFiles):
                missing.update(dataset.missing_files())
                row.problems += [f"{path} does not exist" for path in sorted(missing)]
            if decode:
                task = progress.add_task(f"{name}, {split}", total=len(dataset))
                _decode(dataset, missing, row, lambda: progress.advance(task))
    for row in rows:
        shared = classes.get("train", set()) & classes.get(row.split, set())
        if row.split != "train" and shared:
            row.problems.append(f"{len(shared):,} of its classes are in train, too")
    return rows


def table(rows: list[Row]) -> Table:
    """The rows' numbers, in Markdown; a dash where there is none."""
    result = Table(box=MARKDOWN)
    result.add_column("split")
    for title in ("classes", "published", "images", "published", "grey", "problems"):
        result.add_column(title, justify="right")
    for row in rows:
        numbers = (
            row.classes,
            row.expected_classes,
            row.images,
            row.expected_images,
            row.greyscale,
            len(row.problems),
        )
        shown = ["-" if number is None else f"{number:,}" for number in numbers]
        result.add_row(row.split, *shown)
    return result


def _construct(cls: type[Any], root: Path, split: str) -> Any:
    if issubclass(cls, ImageFiles):
        return cls(root, split, check_counts=False, check_files=False)
    return cls(root, split)


def _count(dataset: Any, row: Row) -> None:
    row.classes, row.images = len(set(dataset.labels)), len(dataset.labels)
    found = (row.classes, row.images)
    if row.expected_classes is None or row.expected_images is None:
        return
    expected = (row.expected_classes, row.expected_images)
    if found != expected:
        row.problems.append(f"expected {counts(*expected)}, found {counts(*found)}")


def _decode(dataset: Any, missing: set[str], row: Row, advance: Any) -> None:
    """Read all images but the missing ones; count the grey ones."""

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
    row.greyscale = 0
    try:
        for result in pool.map(mode, range(len(dataset))):
            if isinstance(result, DatasetError):
                row.problems.append(result.problem)
            elif result is not None:
                row.greyscale += ImageMode.getmode(result).basemode == "L"
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
