"""From experiments to a `Report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import protocol
from .actual_shares import actual_shares
from .arms import Pairs, pair_up, result
from .curves import panels
from .errors import ReportError
from .experiments import Experiment
from .insight import insights
from .names import METRICS, chosen_from, metric_name, order
from .seeds import Seed
from .selection import NEED_VALIDATION, SELECTIONS, USUAL, choose
from .structure import Record, Report, Result, Section


def build(
    experiments: Sequence[Experiment],
    selections: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baselines: Mapping[str, str] | None = None,
) -> Report:
    """Compute everything that is reported.

    Args:
        selections: of SELECTIONS; default all that there is something to select by.
        metrics: by name or label; default those of METRICS that were measured.
        baselines: by experiment name, in place of those in config.yaml.

    Raises:
        ReportError: an option names what is not there, or nothing is finished enough.
    """
    ordered = sorted(experiments, key=lambda e: (e.dataset, order(e.arm)))
    chosen = _metrics(ordered, metrics)
    pairs = pair_up(ordered, baselines or {})
    sections = tuple(
        Section(dataset, selection, _results(arms, pairs, selection, chosen))
        for dataset, arms in by_dataset(ordered).items()
        for selection in chosen_from(selections or USUAL, SELECTIONS, "selection")
        if selection not in NEED_VALIDATION or any(arm.validation for arm in arms)
    )
    if not sections:
        raise ReportError(
            "no arm has a validation split, so that nothing can be selected on it; "
            "choose another selection"
        )
    seen = insights(ordered)
    return Report(
        metrics=tuple(chosen),
        protocol=protocol.lines(ordered, sections),
        sections=sections,
        notes=protocol.notes(ordered, pairs, sections),
        records=_records(ordered, sections, chosen),
        panels=panels(ordered, pairs, chosen, list(selections) == ["held_out"]),
        insights=seen,
        actual_shares=actual_shares(sections, seen, chosen[0]),
    )


def by_dataset(experiments: Sequence[Experiment]) -> dict[str, list[Experiment]]:
    groups: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(experiment.dataset, []).append(experiment)
    return groups


def _metrics(experiments: Sequence[Experiment], wanted: Sequence[str]) -> list[str]:
    measured = {
        metric
        for experiment in experiments
        for trial in experiment.trials
        for epoch in trial.trained
        for metric in epoch.splits.get(trial.test, {})
    }
    if not measured:
        raise ReportError(
            "no trial has been evaluated on its test split after training began; "
            "wait for the first evaluation"
        )
    usual = [metric for metric in METRICS if metric in measured]
    known = usual + sorted(measured - set(usual))
    names = [metric_name(name) for name in wanted]
    return chosen_from(names or usual, known, "metric")


def _results(
    arms: Sequence[Experiment], pairs: Pairs, selection: str, metrics: Sequence[str]
) -> tuple[Result, ...]:
    """An entry an arm; of one with folds an entry a kind of accuracy."""
    results = []
    for arm in arms:
        kinds = ["separated", "concatenated"] if arm.with_folds else ["single"]
        # The folds' models are concatenated as one selection each, which each metric's
        # own best epoch is not.
        if selection == "best_on_test" and arm.with_folds:
            kinds.remove("concatenated")
        results += [result(arm, pairs, kind, selection, metrics) for kind in kinds]
    return tuple(results)


def _records(
    experiments: Sequence[Experiment],
    sections: Sequence[Section],
    metrics: Sequence[str],
) -> tuple[Record, ...]:
    selections = dict.fromkeys(section.selection for section in sections)
    return tuple(
        record
        for experiment in experiments
        for seed in experiment.complete_seeds.values()
        for selection in selections
        for metric in metrics
        for record in _of_seed(experiment, seed, selection, metric)
    )


def _of_seed(
    experiment: Experiment, seed: Seed, selection: str, metric: str
) -> list[Record]:
    found: list[tuple[int | str | None, int | None, float]] = []
    for trial in seed.trials:
        chosen = choose(trial, selection, metric)
        if chosen is not None:
            found.append((trial.fold, chosen.epoch, chosen.value))
    together = seed.concatenated.get(selection, {}).get(metric)
    if together is not None:
        found.append(("concatenated", None, together))
    return [
        Record(
            experiment.name,
            experiment.dataset,
            experiment.loss,
            experiment.memvir,
            seed.number,
            fold,
            selection,
            epoch,
            metric,
            value,
        )
        for fold, epoch, value in found
    ]
