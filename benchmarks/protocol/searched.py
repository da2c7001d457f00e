"""A search of Optuna's: where it is kept, its table and its figures."""

from __future__ import annotations

import sqlite3
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.box import MARKDOWN
from rich.table import Table

from ..files import write_png

STORAGE = "study.db"
INTERRUPTED = "interrupted"
ERROR = "error"


def open_study(folder: Path, name: str) -> optuna.Study:
    """The search that is kept in a folder, begun if there is none.

    The path is given to sqlite as it is: in a URL, ?, # and % would mean something.
    """
    connect = partial(
        sqlite3.connect, (folder / STORAGE).resolve(), check_same_thread=False
    )
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{STORAGE}", engine_kwargs={"creator": connect}
    )
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )


def settled(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that are finished or have failed, and not those that were stopped."""
    found = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    return [
        trial
        for trial in found
        if trial.state == TrialState.COMPLETE or trial.user_attrs.get(ERROR)
    ]


def table(study: optuna.Study, metric: str) -> Table:
    """A row a trial, the best first, with its values; failed ones last."""
    trials = settled(study)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    result = Table(box=MARKDOWN)
    result.add_column("trial", justify="right")
    result.add_column(f"{metric}, validation", justify="right")
    for name in names:
        result.add_column(name, justify="right", overflow="fold")
    for trial in sorted(trials, key=_place):
        value = "failed" if trial.value is None else f"{100 * trial.value:.2f}"
        cells = [
            f"{trial.params[name]:.6g}" if name in trial.params else "-"
            for name in names
        ]
        result.add_row(str(trial.number), value, *cells)
    return result


def _place(trial: FrozenTrial) -> tuple[bool, float, int]:
    failed = trial.value is None
    return failed, 0.0 if failed else -float(trial.value or 0), trial.number


def draw(study: optuna.Study, folder: Path) -> list[str]:
    """Optuna's history, importances and slices as PNG; names of what could be drawn."""
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    drawn = []
    kinds: dict[str, Any] = {
        "history": plots.plot_optimization_history,
        "importance": plots.plot_param_importances,
        "slices": plots.plot_slice,
    }
    for name, plot in kinds.items():
        try:
            # Optuna sets a style of its own, for all figures to come.
            with warnings.catch_warnings(), pyplot.rc_context():
                warnings.simplefilter("ignore")  # that these are experimental
                axes: Any = plot(study)
        except (ValueError, RuntimeError, ArithmeticError):  # of too few trials
            pyplot.close("all")
            continue
        figure = getattr(axes, "figure", None) or axes.flat[0].figure
        figure.set_figwidth(5 * numpy.size(axes) + 2)  # names of parameters are long
        write_png(folder / f"{name}.png", figure, bbox_inches="tight")
        pyplot.close("all")
        drawn.append(f"{name}.png")
    return drawn
