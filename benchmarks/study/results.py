"""What a study's runs have measured so far: packed files, and folders beside them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..errors import NotPicked
from ..report.contents import name_of
from ..report.experiments import Stored, experiment_folders, read_folder
from ..report.pack import SUFFIX, read_pack, unpack_one
from ..report.packing import pack
from ..report.runs import SEED, TRIAL, Runs, tables, together
from ..report.selection import select
from .jobs import Job


class Results:
    """Of a folder with a folder, or a file FOLDER.csv.gz, for each of its parts.

    An experiment that is in both is read from the folder, where it is gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packed = cache(self._read_pack)
        self.of = cache(self._read)
        self._scores = cache(self._held_out)
        self._complete = cache(self._finished)

    def refresh(self) -> None:
        """Runs may have been finished since."""
        for of in (self.of, self._scores, self._complete):
            of.cache_clear()

    def finished(self, job: Job) -> bool:
        return (job.name, job.seed) in self._complete(job.folder)

    def held_out(self, job: Job) -> float:
        """The best primary metric on held-out classes; test accuracies are not read.

        Raises:
            NotPicked: the run is not finished.
        """
        if not self.finished(job):
            raise NotPicked(f"{job.key}, seed {job.seed}, is not finished")
        scores = self._scores(job.folder)
        if (job.name, job.seed) not in scores:
            raise NotPicked(f"{job.key}, seed {job.seed}, has no held-out classes")
        return scores[job.name, job.seed]

    def all(self, folders: Iterable[str]) -> Runs | None:
        """Of several parts; experiments are called FOLDER/NAME."""
        named = [
            runs.renamed(f"{folder}/{{}}".format)
            for folder in folders
            if (runs := self.of(folder)) is not None
        ]
        return together(named) if named else None

    def go_on_with(self, job: Job) -> None:
        """Have an experiment's folder there, where its runs are packed."""
        stored = self._packed(job.folder).get(job.name)
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
        self._packed.cache_clear()
        return pack([path], self.folder / f"{folder}{SUFFIX}")

    def _read_pack(self, folder: str) -> dict[str, Stored]:
        file = self.folder / f"{folder}{SUFFIX}"
        return {name_of(one): one for one in (read_pack(file) if file.exists() else ())}

    def _read(self, folder: str) -> Runs | None:
        """All runs of a part; None if there is none."""
        stored = dict(self._packed(folder))
        path = self.folder / folder
        for place in experiment_folders(path) if path.is_dir() else ():
            one = read_folder(place)
            stored[name_of(one)] = one
        begun = [one for one in stored.values() if one.begun]
        return tables(begun) if begun else None

    def _finished(self, folder: str) -> set[tuple[str, int]]:
        if (runs := self.of(folder)) is None:
            return set()
        return set(runs.seeds.index[runs.seeds.complete.astype(bool)])

    def _held_out(self, folder: str) -> dict[tuple[str, int], float]:
        """Of each run of a part, which has some."""
        runs = self.of(folder)
        assert runs is not None  # it has a finished run
        primary = runs.trials[[*TRIAL, "primary_metric"]]
        found = select(runs, "held_out", sorted(set(primary.primary_metric)))
        found = found.merge(primary)
        found = found[found.metric == found.primary_metric]
        return found.groupby(SEED).value.mean().to_dict()
