"""record-keeper's CSV and sqlite records, cut back when training resumes."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

DATABASE = "logs.db"
ITERATION = "~iteration~"


def cut_back(folder: Path, epoch: int, steps_per_epoch: int) -> None:
    """Delete what was recorded after an epoch, which will be recorded again.

    Accuracies are recorded by epoch, all else by training step. The CSV files are
    written anew from the database. With epoch 0, nothing is left: what was measured
    before training is measured again.
    """
    database = folder / DATABASE
    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        for (table,) in tables.fetchall():
            columns = [
                row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')
            ]
            if ITERATION not in columns:
                continue
            by_epoch = "epoch" in columns
            last = epoch if by_epoch and epoch else epoch * steps_per_epoch - 1
            connection.execute(
                f'DELETE FROM "{table}" WHERE "{ITERATION}" > ?', (last,)
            )
            connection.commit()
            _write_csv(connection, table, folder / f"{table}.csv")


def _write_csv(connection: sqlite3.Connection, table: str, path: Path) -> None:
    cursor = connection.execute(f'SELECT * FROM "{table}"')
    columns = [column[0] for column in cursor.description]
    keep = [i for i, column in enumerate(columns) if column != "id"]
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([columns[i] for i in keep])
        writer.writerows([row[i] for i in keep] for row in cursor)
    temporary.replace(path)
