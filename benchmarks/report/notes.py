"""The sentences at the top of a report and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from ..config.loading import without_places
from .build import Report
from .pack import MEMVIR
from .published import published, sources
from .runs import NO_FOLD, Runs
from .selection import NEED_VALIDATION, SELECTIONS
from .tables import last_insights

DRIFT, TOO_CLOSE = "cosine_to_newest", 0.99
# Of a config: what names a run, or is what arms differ in.
NAMES = ("experiment_name", "baseline", "source", "seeds", "tsne_classes")
NOT_COMPARED = (*NAMES, "loss_funcs")
PACKAGES = ("torch", "pytorch-metric-learning", "pml-memvir")


@lru_cache(maxsize=4)  # all files of a report have it
def protocol(report: Report) -> list[str]:
    """Data, seeds, epochs, selections, statistics and versions."""
    runs, chosen = report.runs, dict.fromkeys(report.selections)
    texts = []
    for dataset in dict.fromkeys(runs.experiments.dataset):
        arms = runs.experiments[runs.experiments.dataset == dataset]
        texts.append(about(runs, arms))
        if (arms.num_folds > 1).any():
            texts.append(
                "Cross-validation: separated is the mean over the folds' models, "
                "concatenated is that of their concatenated embeddings; seeds, not "
                "folds, are what is averaged and paired."
            )
    if set(chosen) - {"held_out"} and any(map(published, runs.experiments.index)):
        chosen["best_on_test"] = None  # published numbers are selected by it
    texts += [f"Selection {name}: {SELECTIONS[name]}." for name in chosen]
    texts.append(
        "Over seeds: mean, sd (sample standard deviation, n - 1), 95% confidence "
        "interval of the mean by Student's t; differences are paired by seed."
    )
    texts.append(versions(runs.experiments))
    return list(dict.fromkeys(texts))


def about(runs: Runs, arms: pd.DataFrame) -> str:
    """One data set's arms, seeds and epochs."""

    begun = runs.trials[runs.trials.num_epochs > 0].groupby("experiment").first()

    def seeds(name: str) -> str:
        complete = runs.complete_seeds(name)
        listed = f" ({', '.join(map(str, complete))})" if complete else ""
        return f"{len(complete)} finished{listed}"

    def known(column: str) -> Callable[[str], str]:
        return lambda name: str(begun[column].get(name, "unknown"))

    parts = [
        f"Data set: {arms.dataset.iloc[0] or '(unnamed)'}; arms: {len(arms)}",
        _shared("seeds", arms, seeds),
        _shared("epochs", arms, known("num_epochs")),
        _shared("test split", arms, known("test")),
    ]
    return f"{'; '.join(parts)}."


def versions(arms: pd.DataFrame) -> str:
    """Of packages and of the code."""
    texts = {name: _versions(arms.environment[name]) for name in arms.index}
    return f"{_shared('Versions', arms, texts.__getitem__)}."


@lru_cache(maxsize=4)
def notes(report: Report) -> list[str]:
    """What a reader must know to read the tables right."""
    runs, table = report.runs, report.runs.experiments
    told = set(runs.values[runs.values.split == MEMVIR].experiment)
    texts = [t for name in table.index for t in _of_arm(report, name, name in told)]
    complete = {name: runs.complete_seeds(name) for name in table.index}
    if alone := [name for name, seeds in complete.items() if len(seeds) == 1]:
        texts.append(
            "One finished seed, so no standard deviation and no interval: "
            f"{', '.join(alone)}."
        )
    texts += [
        f"{name}: its baseline {baseline} is not among the experiments."
        for name, baseline in table.baseline.items()
        if baseline and name not in report.baselines
    ]
    for arm, other in report.baselines.items():
        for one, two in ((arm, other), (other, arm)):
            if alone := sorted(set(complete[one]) - set(complete[two])):
                texts.append(
                    f"{arm} minus {table.arm[other]} leaves out seeds that only "
                    f"{table.arm[one]} has finished: {', '.join(map(str, alone))}."
                )
    official = ", ".join(table.index[table.source == "official"]) or "no arm here"
    texts.append(f"With the settings of the paper's authors: {official}.")
    texts += _of_pairs(report)
    seen = last_insights(runs)
    if narrow := [n for n in table.index if seen.get((n, DRIFT), 0) > TOO_CLOSE]:
        texts.append(
            "Class weights that hardly drift in a gap, so that old copies teach little "
            f"(cosine to the newest snapshot above {TOO_CLOSE}): {', '.join(narrow)}."
        )
    used = {one.source for name in table.index for one in published(name)}
    texts += [
        f"Published, {of['label']}: {of['reference']}: {of['what']}."
        for source, of in sources().items()
        if source in used
    ]
    return texts


def _of_pairs(report: Report) -> Iterator[str]:
    """What else differs between an arm and its baseline."""
    config = report.runs.experiments.config
    for arm, other in report.baselines.items():
        keys = dict.fromkeys([*config[arm], *config[other]])
        differing = [
            key
            for key in keys
            if key not in NOT_COMPARED
            and _settings(config[arm], key) != _settings(config[other], key)
        ]
        if differing:
            yield (
                f"{arm} and {other} differ in more than the loss: "
                f"{', '.join(differing)}."
            )


def _settings(config: Mapping[str, Any], key: str) -> Any:
    """What results depend on; a config of before a key was known has its default."""
    value = without_places(config.get(key))
    return None if value is False or value in ({}, [], "") else value


def _of_arm(report: Report, name: str, has_told: bool) -> Iterator[str]:
    """
    Args:
        has_told: whether MemVir has told anything.
    """
    runs, arm = report.runs, report.runs.experiments.loc[name]
    trials = runs.trials[runs.trials.experiment == name]
    if trials.empty:
        yield f"{name} has no trial yet."
        return
    complete = runs.complete_seeds(name)
    for seed, state in runs.seeds_of(name).iterrows():
        if not state.complete:
            missing = state.missing
            yield f"{name}, seed {seed} is unfinished and in no mean: {missing}."
    for seed in complete:
        stopped = trials[(trials.seed == seed) & trials.stopped_early]
        if texts := [_stop(trial) for trial in stopped.itertuples()]:
            yield f"{name}, seed {seed} stopped early: {', '.join(texts)}."
    with_memvir = "MemVir" in str(arm.config.get("loss_funcs"))
    if with_memvir and complete and not has_told:
        yield (
            f"{name}: MemVir tells of no virtual classes: the warm-up and a gap were "
            "as long as the training, or its loss goes by concatenation."
        )
    for dataset, selection, arms in report.sections():
        if dataset == arm.dataset:
            yield from _missing(
                report, name, selection, [k for a, k in arms if a == name]
            )


def _missing(
    report: Report, name: str, selection: str, kinds: list[str]
) -> Iterator[str]:
    runs = report.runs
    trials = runs.trials[runs.trials.experiment == name]
    if selection in NEED_VALIDATION and trials.validation.isna().all():
        yield f"{name} has no validation split to select on."
        return
    of = report.seeds[
        (report.seeds.experiment == name) & (report.seeds.selection == selection)
    ]
    for kind in kinds:
        measured = of[of.accuracy == kind].groupby("seed").metric.nunique()
        short = [
            seed
            for seed in runs.complete_seeds(name)
            if measured.get(seed, 0) < len(report.metrics)
        ]
        if short:
            of_kind = "" if kind == "single" else f", {kind}"
            yield (
                f"{name}{of_kind}, by {selection}: some metrics of seeds "
                f"{', '.join(map(str, short))} were not measured."
            )


def _stop(trial: Any) -> str:
    where = "" if trial.fold == NO_FOLD else f"fold {trial.fold} "
    on = ", on test accuracy, which is optimistic"
    on = "" if isinstance(trial.validation, str) else on
    return f"{where}at epoch {trial.last_epoch} of {trial.num_epochs}{on}"


def _shared(what: str, arms: pd.DataFrame, text: Callable[[str], str]) -> str:
    """Once if it is the same for all arms, else for each group of arms."""
    groups: dict[str, list[str]] = {}
    for name in arms.index:
        groups.setdefault(text(name), []).append(arms.arm[name])
    if len(groups) == 1:
        return f"{what}: {next(iter(groups))}"
    parts = (f"{value} ({', '.join(names)})" for value, names in groups.items())
    return f"{what}: {'; '.join(parts)}"


def _versions(environment: Mapping[str, Any]) -> str:
    """Of environment.json, which is another program's: whatever of it is there.

    Of all sessions; those of one experiment may have differed.
    """
    sessions = environment.get("sessions")
    sessions = sessions if isinstance(sessions, list) else []
    known = [one for one in (*sessions, environment) if isinstance(one, dict)]
    packages = dict.fromkeys(filter(None, map(_packages, known)))
    revisions = dict.fromkeys(filter(None, map(_revision, known)))
    parts = [" or ".join(packages)] if packages else []
    parts += [f"revision {' and '.join(revisions)}"] if revisions else []
    return ", ".join(parts) or "unknown"


def _packages(session: Mapping[str, Any]) -> str:
    known = session.get("versions")
    known = known if isinstance(known, dict) else {}
    by_name = {str(name).replace("_", "-").lower(): known[name] for name in known}
    return ", ".join(f"{name} {by_name[name]}" for name in PACKAGES if name in by_name)


def _revision(session: Mapping[str, Any]) -> str:
    git = session.get("git")
    if not isinstance(git, dict) or not git.get("revision"):
        return ""
    return f"{str(git['revision'])[:12]}{' with changes' if git.get('dirty') else ''}"
