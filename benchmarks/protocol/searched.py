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
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ..files import write_png
from ..report.cells import NONE, percent
from ..report.markdown import as_table

STORAGE = "study.db"
ERRORS_OF_STORAGE = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
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


def table(study: optuna.Study, metric: str) -> str:
    """A row a trial, the best first, with its values; failed ones last."""
    rows = [
        {
            "trial": str(trial.number),
            f"{metric}, validation": (
                "failed" if trial.value is None else percent(trial.value)
            ),
            **{name: f"{value:.6g}" for name, value in trial.params.items()},
        }
        for trial in sorted(
            settled(study), key=lambda t: (t.value is None, -(t.value or 0), t.number)
        )
    ]
    return as_table(pd.DataFrame(rows).fillna(NONE))


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
