"""Everything that runs measured, in tables: the one reader of reports and studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ReportError
from .checks import History
from .contents import PROTOCOL, contents
from .experiments import CONFIG, Place, Stored, experiment_folders, read_folder
from .pack import MEMVIR, SUFFIX, TRAIN, read_pack

NO_FOLD = -1
SEED = ["experiment", "seed"]
TRIAL = [*SEED, "fold"]
Row = tuple[object, ...]


@dataclass(frozen=True)
class Runs:
    """Tables, which refer to each other by `experiment`, `seed` and `fold`.

    Attributes:
        experiments: by name: place, baseline, source, environment, dataset, arm, loss,
            memvir (whether it is on), num_folds (0: no cross-validation), config.
        trials: a row a training, also of those that are missing: PROTOCOL, last_epoch,
            complete, stopped_early, and what is missing in words. A fold of NO_FOLD
            is a seed without folds.
        values: the tidy table, a row a measured number: TRIAL, epoch, step, split,
            metric, value. Accuracies are fractions. Training losses have the split
            "train", what MemVir said of its steps "memvir".
        concatenated: accuracies of the folds' concatenated embeddings: SEED, selection,
            metric, value.
    """

    experiments: pd.DataFrame
    trials: pd.DataFrame
    values: pd.DataFrame
    concatenated: pd.DataFrame

    def only(self, names: Iterable[str]) -> Runs:
        """These experiments, in this order."""
        names = list(names)
        rest = [table[table.experiment.isin(names)] for table in self._of_runs]
        return Runs(self.experiments.loc[names], *rest)

    def renamed(self, name: Callable[[str], str]) -> Runs:
        """The same under other names."""
        rest = [t.assign(experiment=t.experiment.map(name)) for t in self._of_runs]
        return Runs(self.experiments.rename(index=name), *rest)

    @property
    def _of_runs(self) -> tuple[pd.DataFrame, ...]:
        return self.trials, self.values, self.concatenated

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """By experiment and seed: whether it is complete, and what is missing."""
        groups = self.trials.groupby(SEED, sort=False)
        return groups.agg(
            complete=("complete", "all"),
            missing=("missing", lambda texts: ", ".join(filter(None, texts))),
        )

    def seeds_of(self, name: str) -> pd.DataFrame:
        """Of one experiment, by seed; empty without any."""
        seeds = self.seeds.reset_index("seed")
        return seeds[seeds.index == name].set_index("seed")

    def complete_seeds(self, name: str) -> list[int]:
        return [
            int(s) for s, complete in self.seeds_of(name).complete.items() if complete
        ]

    def of_complete(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of seeds that are complete."""
        complete = self.seeds.index[self.seeds.complete.astype(bool)]
        return table[pd.MultiIndex.from_frame(table[SEED]).isin(complete)]

    def until(self, epoch: int, strict: bool = True) -> Runs:
        """As if schedules had ended with this epoch; the shorter ones are as they are.

        Args:
            strict: a training that had got there must have been evaluated there; else
                it counts as unfinished.

        Raises:
            ReportError: it was not.
        """
        values = self.values[self.values.epoch <= epoch]
        trials = self.trials.copy()
        longer = trials.num_epochs > epoch
        past = longer & (trials.last_epoch > epoch)
        reached = longer & (trials.last_epoch >= epoch)
        at_end = pd.MultiIndex.from_frame(values[values.epoch == epoch][TRIAL])
        missed = past & ~pd.MultiIndex.from_frame(trials[TRIAL]).isin(at_end)
        if strict and missed.any():
            trial = trials[missed].iloc[0]
            of = self.values.merge(trial[TRIAL].to_frame().T.infer_objects(), on=TRIAL)
            evaluated = ", ".join(str(e) for e in sorted(set(of.epoch) - {0}))
            raise ReportError(
                f"{self.experiments.place[trial.experiment]}, seed {trial.seed}, has "
                f"no evaluation at epoch {epoch}; there are {evaluated}"
            )
        trials.loc[reached, "stopped_early"] = False
        trials.loc[reached, ["complete", "missing", "last_epoch"]] = True, "", epoch
        trials.loc[missed, "complete"] = False
        trials.loc[missed, "missing"] = f"not evaluated at epoch {epoch}"
        trials.loc[longer, "num_epochs"] = epoch
        # Concatenated accuracies are of the models at the end of training.
        cut = pd.MultiIndex.from_frame(trials[past][SEED])
        of_cut = pd.MultiIndex.from_frame(self.concatenated[SEED]).isin(cut)
        return Runs(self.experiments, trials, values, self.concatenated[~of_cut])


def together(parts: Iterable[Runs]) -> Runs:
    """One of several, whose experiments have names of their own."""
    experiments, *rest = zip(
        *((p.experiments, p.trials, p.values, p.concatenated) for p in parts)
    )
    joined = (pd.concat(tables, ignore_index=True) for tables in rest)
    return Runs(pd.concat(experiments), *joined)


def read(places: Iterable[Path]) -> Runs:
    """All experiments in these files of packed runs, and in or below these folders.

    Raises:
        ReportError: there is none, two have one name, or a file is damaged.
    """
    return tables(find(places))


def find(places: Iterable[Path]) -> list[Stored]:
    """All experiments in these files, and in or below these folders.

    Raises:
        ReportError: there is none, or a file cannot be read.
    """
    places = list(places)
    found: list[Stored] = []
    seen: set[Path] = set()
    for place in (p.resolve() for p in places):
        if place.is_file() and place.name.endswith(SUFFIX):
            found += [] if place in seen else read_pack(place)
            seen.add(place)
            continue
        folders = [f for f in experiment_folders(place) if f not in seen]
        seen.update(folders)
        found += map(read_folder, folders)
    if not found:
        raise ReportError(
            f"no {CONFIG} in or below {', '.join(map(str, places)) or 'no folder'}; "
            f"give folders that experiments were run in, or files *{SUFFIX}"
        )
    return found


def tables(found: Iterable[Stored]) -> Runs:
    """
    Raises:
        ReportError: of which file, and what is wrong with it; or two have one name, or
            would have one in a report.
    """
    experiments: dict[str, dict[str, Any]] = {}
    trials: list[dict[str, Any]] = []
    values: list[Row] = []
    concatenated: list[Row] = []
    known: dict[tuple[str, ...], Path] = {}
    for one in map(contents, found):
        name, dataset, arm = (one.about[k] for k in ("experiment", "dataset", "arm"))
        place = one.about["place"]
        for label, problem in (
            ((name,), f"are both named {name!r}"),
            ((dataset, arm), f"would both be called {arm!r} on {dataset}"),
        ):
            if (other := known.setdefault(label, place)) is not place:
                raise ReportError(
                    f"{other} and {place} {problem}; give one of them, or change "
                    "experiment_name"
                )
        experiments[name] = one.about
        for at, history in one.trials.items():
            trials.append({"experiment": name, **_trial(at, history)})
            values += ((name, *row) for row in _values(at, history))
        concatenated += [
            (name, seed, selection, metric, value)
            for seed, of in one.concatenated.items()
            for selection in ("last", "best_on_validation")
            for metric, value in (getattr(of, selection) or {}).items()
        ]
    columns = [*TRIAL, *PROTOCOL, "last_epoch", "complete", "stopped_early", "missing"]
    measured = [*TRIAL, "epoch", "step", "split", "metric", "value"]
    return Runs(
        pd.DataFrame.from_dict(experiments, orient="index", dtype=object),
        pd.DataFrame(trials, columns=columns).astype({"validation": object}),
        pd.DataFrame(values, columns=measured).astype({"value": float}),
        pd.DataFrame(concatenated, columns=[*SEED, "selection", "metric", "value"]),
    )


def _trial(at: Place, history: History | None) -> dict[str, Any]:
    seed, fold = at
    where = "" if fold is None else f"fold {fold} "
    row: dict[str, Any] = {"seed": seed, "fold": NO_FOLD if fold is None else fold}
    if history is None:
        row |= {key: "" for key in PROTOCOL} | {"validation": None, "num_epochs": 0}
        row |= {"missing": f"{where}not begun", "last_epoch": 0}
        return {**row, "complete": False, "stopped_early": False}
    complete = history.finished or history.stopped_early
    progress = f"{where}at epoch {history.last_epoch} of {history.num_epochs}"
    return {
        **row,
        **{key: getattr(history, key) for key in PROTOCOL},
        "last_epoch": history.last_epoch,
        "complete": complete,
        "stopped_early": history.stopped_early,
        "missing": "" if complete else progress,
    }


def _values(at: Place, history: History | None) -> Iterator[Row]:
    seed, fold = at
    for entry in history.epochs if history else ():
        when = seed, NO_FOLD if fold is None else fold, entry.epoch, entry.step
        if entry.loss is not None:
            yield *when, TRAIN, "loss", entry.loss
        for split, metrics in {**entry.splits, MEMVIR: entry.memvir}.items():
            for metric, value in metrics.items():
                yield *when, split, metric, value
