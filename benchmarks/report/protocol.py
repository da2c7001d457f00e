"""The sentences at the top of a report and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .arms import Pairs
from .experiments import Experiment
from .published import published, sources
from .selection import NEED_VALIDATION, SELECTIONS
from .structure import Section
from .trial import Trial

PACKAGES = ("torch", "pytorch-metric-learning", "pml-memvir")


def lines(
    experiments: Sequence[Experiment], sections: Sequence[Section]
) -> tuple[str, ...]:
    """Data, seeds, epochs, selections, statistics and versions."""
    chosen = dict.fromkeys(section.selection for section in sections)
    texts = []
    for dataset in dict.fromkeys(e.dataset for e in experiments):
        arms = [e for e in experiments if e.dataset == dataset]
        texts.append(about(arms))
        if any(arm.with_folds for arm in arms):
            texts.append(
                "Cross-validation: separated is the mean over the folds' models, "
                "concatenated is that of their concatenated embeddings; seeds, not "
                "folds, are what is averaged and paired."
            )
    if any(result.published for section in sections for result in section.results):
        chosen["best_on_test"] = None  # published numbers are selected by it
    for name in chosen:
        texts.append(f"Selection {name}: {SELECTIONS[name]}.")
    texts.append(
        "Over seeds: mean, sd (sample standard deviation, n - 1), 95% confidence "
        "interval of the mean by Student's t; differences are paired by seed."
    )
    texts.append(versions(experiments))
    return tuple(dict.fromkeys(texts))


def about(arms: Sequence[Experiment]) -> str:
    """One data set's arms, seeds and epochs."""
    return (
        f"Data set: {arms[0].dataset or '(unnamed)'}; arms: {len(arms)}; "
        f"{_shared('seeds', arms, _seeds)}; "
        f"{_shared('epochs', arms, lambda e: str(e.num_epochs or 'unknown'))}; "
        f"{_shared('test split', arms, _test_split)}."
    )


def versions(arms: Sequence[Experiment]) -> str:
    """Of packages and of the code."""
    return f"{_shared('Versions', arms, _versions)}."


def notes(
    experiments: Sequence[Experiment], pairs: Pairs, sections: Sequence[Section]
) -> tuple[str, ...]:
    """What a reader must know to read the tables right."""
    texts = []
    for arm in experiments:
        texts += [
            f"{arm.name}, seed {seed.number} is unfinished and in no mean: "
            f"{', '.join(seed.unfinished)}."
            for seed in arm.seeds.values()
            if not seed.complete
        ]
        if not arm.seeds:
            texts.append(f"{arm.name} has no trial yet.")
        texts += [
            f"{arm.name}, seed {seed.number} stopped early: {epochs}."
            for seed in arm.complete_seeds.values()
            if (epochs := _stops(seed.trials))
        ]
        if arm.has_memvir and arm.complete_seeds:
            if not any(epoch.memvir for trial in arm.trials for epoch in trial.epochs):
                texts.append(
                    f"{arm.name}: MemVir tells of no virtual classes: the warm-up was "
                    "as long as the training, or its loss goes by concatenation."
                )
        texts += _of_missing_numbers(arm, sections)
    alone = [arm.name for arm in experiments if len(arm.complete_seeds) == 1]
    if alone:
        texts.append(
            f"One finished seed, so no standard deviation and no interval: "
            f"{', '.join(alone)}."
        )
    texts += _of_pairs(experiments, pairs)
    ours = [arm.name for arm in experiments if arm.source != "official"]
    if ours:
        texts.append(f"Settings are ours, not official: {', '.join(ours)}.")
    used = {p.source.key for arm in experiments for p in published(arm.name)}
    texts += [
        f"Published, {source.label}: {source.reference}: {source.what}."
        for source in sources()
        if source.key in used
    ]
    return tuple(texts)


def _shared(
    what: str, arms: Sequence[Experiment], text: Callable[[Experiment], str]
) -> str:
    """Once if it is the same for all arms, else for each group of arms."""
    groups: dict[str, list[str]] = {}
    for arm in arms:
        groups.setdefault(text(arm), []).append(arm.arm)
    if len(groups) == 1:
        return f"{what}: {next(iter(groups))}"
    parts = (f"{value} ({', '.join(names)})" for value, names in groups.items())
    return f"{what}: {'; '.join(parts)}"


def _seeds(arm: Experiment) -> str:
    seeds = [str(number) for number in arm.complete_seeds]
    return f"{len(seeds)} finished" + (f" ({', '.join(seeds)})" if seeds else "")


def _test_split(arm: Experiment) -> str:
    return arm.trials[0].test if arm.trials else "unknown"


def _versions(arm: Experiment) -> str:
    """Of environment.json, which is another program's: whatever of it is there.

    Of all sessions; those of one experiment may have differed.
    """
    sessions = arm.environment.get("sessions")
    sessions = sessions if isinstance(sessions, list) else []
    known = [one for one in (*sessions, arm.environment) if isinstance(one, dict)]
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


def _stops(trials: Iterable[Trial]) -> str:
    stops = []
    for trial in trials:
        if trial.stopped_early:
            where = "" if trial.fold is None else f"fold {trial.fold} "
            on = "" if trial.validation else ", on test accuracy, which is optimistic"
            stops.append(
                f"{where}at epoch {trial.last_epoch} of {trial.num_epochs}{on}"
            )
    return ", ".join(stops)


def _of_missing_numbers(arm: Experiment, sections: Sequence[Section]) -> list[str]:
    texts = []
    for section in sections:
        if section.dataset != arm.dataset:
            continue
        if section.selection in NEED_VALIDATION and arm.trials:
            if arm.validation is None:
                texts.append(f"{arm.name} has no validation split to select on.")
                continue
        for result in section.results:
            if result.experiment != arm.name:
                continue
            short = sorted(
                number
                for number, values in result.seeds.items()
                if any(value is None for value in values.values())
            )
            if short:
                kind = "" if result.accuracy == "single" else f", {result.accuracy}"
                texts.append(
                    f"{arm.name}{kind}, by {section.selection}: some metrics of seeds "
                    f"{', '.join(map(str, short))} were not measured."
                )
    return texts


def _of_pairs(experiments: Sequence[Experiment], pairs: Pairs) -> list[str]:
    texts = []
    paired = {arm.name for arm, _ in pairs}
    for arm in experiments:
        if arm.baseline and arm.name not in paired:
            texts.append(
                f"{arm.name}: its baseline {arm.baseline} is not among the experiments."
            )
    for arm, other in pairs:
        for one, two in ((arm, other), (other, arm)):
            alone = sorted(one.complete_seeds.keys() - two.complete_seeds.keys())
            if alone:
                texts.append(
                    f"{arm.name} minus {other.arm} leaves out seeds that only "
                    f"{one.arm} has finished: {', '.join(map(str, alone))}."
                )
    return texts
