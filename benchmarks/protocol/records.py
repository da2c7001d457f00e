"""record-keeper's CSV, sqlite and TensorBoard records, cut back on resuming."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..config.errors import in_words
from ..errors import DatabaseError
from ..files import replacing

DATABASE = "logs.db"
ITERATION = "~iteration~"


def cut_back(folder: Path, epoch: int, steps_per_epoch: int) -> None:
    """Delete what was recorded after an epoch, which will be recorded again.

    Accuracies are recorded by epoch, all else by training step. With epoch 0, nothing
    is left: what was measured before training is measured again.
    """
    if (folder / DATABASE).exists():
        _cut_database(folder / DATABASE, epoch, steps_per_epoch)
    for path in folder.glob("*.csv"):
        _cut_csv(path, epoch, steps_per_epoch)


def purge_events(record_keeper: Any, epoch: int, steps_per_epoch: int) -> None:
    """Have TensorBoard leave out the training steps after an epoch.

    Accuracies are recorded by epoch. Those of epochs after it are recorded again, as
    they were, and may be there twice.
    """
    before = record_keeper.tensorboard_writer
    if before is None or len(list(Path(before.log_dir).glob("events.*"))) < 2:
        return  # there is none of a training that was killed
    before.close()
    record_keeper.tensorboard_writer = type(before)(
        log_dir=before.log_dir, purge_step=epoch * steps_per_epoch
    )


def _last(columns: list[str], epoch: int, steps_per_epoch: int) -> int:
    """The last iteration to keep in a table of these columns."""
    return epoch if "epoch" in columns and epoch else epoch * steps_per_epoch - 1


def _cut_database(path: Path, epoch: int, steps_per_epoch: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        for (table,) in tables.fetchall():
            info = connection.execute(f'PRAGMA table_info("{table}")')
            columns = [row[1] for row in info]
            if ITERATION in columns:
                connection.execute(
                    f'DELETE FROM "{table}" WHERE "{ITERATION}" > ?',
                    (_last(columns, epoch, steps_per_epoch),),
                )
        connection.commit()


def _cut_csv(path: Path, epoch: int, steps_per_epoch: int) -> None:
    """Where columns change, record-keeper goes on under a new line of headings."""
    kept: list[list[str]] = []
    last = -1
    with path.open(newline="") as file:
        for row in csv.reader(file):
            if row[:1] == [ITERATION]:
                last = _last(row, epoch, steps_per_epoch)
                kept.append(row)
            elif row and int(row[0]) <= last:
                kept.append(row)
    while kept and kept[-1][0] == ITERATION:  # headings of nothing
        kept.pop()
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


@contextmanager
def naming_database(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Errors of a database say where it is.

    Raises:
        DatabaseError: in place of these errors, by default of sqlite's.
    """
    try:
        yield
    except errors or sqlite3.Error as error:
        raise DatabaseError(
            f"{path}: {in_words(error).splitlines()[0]}. Free some space, if the disk "
            "is full, and run it again, it goes on"
        ) from error
