"""What a study's runs have measured so far: packed files, and folders beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..report.contents import name_of
from ..report.experiments import Stored, experiment_folders, read_folder
from ..report.pack import SUFFIX, read_pack, unpack_one
from ..report.packing import pack
from ..report.runs import Runs, tables, together
from ..report.selection import select
from .errors import NotPicked
from .jobs import Job


class Results:
    """Of a folder with a folder, or a file FOLDER.csv.gz, for each of its parts.

    An experiment that is in both is read from the folder, where it is gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packed: dict[str, dict[str, Stored]] = {}
        self._read: dict[str, Runs | None] = {}
        self._scores: dict[str, dict[tuple[str, int], float]] = {}
        self._complete: dict[str, set[tuple[str, int]]] = {}

    def refresh(self) -> None:
        """Runs may have been finished since."""
        self._read.clear()
        self._scores.clear()
        self._complete.clear()

    def finished(self, job: Job) -> bool:
        if job.folder not in self._complete:
            runs = self.of(job.folder)
            complete = pd.Series() if runs is None else runs.seeds.complete
            self._complete[job.folder] = set(complete.index[complete.astype(bool)])
        return (job.name, job.seed) in self._complete[job.folder]

    def held_out(self, job: Job) -> float:
        """The best primary metric on held-out classes; test accuracies are not read.

        Raises:
            NotPicked: the run is not finished.
        """
        if not self.finished(job):
            raise NotPicked(f"{job.key}, seed {job.seed}, is not finished")
        if job.folder not in self._scores:
            runs = self.of(job.folder)
            assert runs is not None  # it has a finished run
            primary = sorted(set(runs.trials.primary_metric))
            found = select(runs, "held_out", primary).merge(
                runs.trials[["experiment", "seed", "fold", "primary_metric"]]
            )
            found = found[found.metric == found.primary_metric]
            means = found.groupby(["experiment", "seed"]).value.mean()
            self._scores[job.folder] = means.to_dict()
        scores = self._scores[job.folder]
        if (job.name, job.seed) not in scores:
            raise NotPicked(f"{job.key}, seed {job.seed}, has no held-out classes")
        return scores[job.name, job.seed]

    def of(self, folder: str) -> Runs | None:
        """All runs of a part; None if there is none."""
        if folder not in self._read:
            stored = dict(self._of_pack(folder))
            path = self.folder / folder
            for place in experiment_folders(path) if path.is_dir() else ():
                one = read_folder(place)
                stored[name_of(one)] = one
            some = [one for one in stored.values() if one.begun]
            self._read[folder] = tables(some) if some else None
        return self._read[folder]

    def all(self, folders: Iterable[str]) -> Runs | None:
        """Of several parts; experiments are called FOLDER/NAME."""
        named = []
        for folder in folders:
            if (runs := self.of(folder)) is not None:
                named.append(runs.renamed(f"{folder}/{{}}".format))
        return together(named) if named else None

    def go_on_with(self, job: Job) -> None:
        """Have an experiment's folder there, where its runs are packed."""
        stored = self._of_pack(job.folder).get(job.name)
        place = self.folder / job.folder / job.name
        if stored is not None and not place.exists():
            unpack_one(stored, place)

    def pack(self, folder: str) -> list[str]:
        """Add a part's folders to its packed file; the folders stay.

        Returns:
            the names of experiments that were added.
        """
        path = self.folder / folder
        if not path.is_dir() or not any(experiment_folders(path)):
            return []
        self._packed.pop(folder, None)
        self.refresh()
        return pack([path], self.folder / f"{folder}{SUFFIX}")

    def _of_pack(self, folder: str) -> dict[str, Stored]:
        if folder not in self._packed:
            file = self.folder / f"{folder}{SUFFIX}"
            found = read_pack(file) if file.exists() else []
            self._packed[folder] = {name_of(one): one for one in found}
        return self._packed[folder]
