"""What a study's file may have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..errors import StudyError, explained
from ..report.figures import ALL_FIGURES
from ..report.selection import SELECTIONS
from .settings import Kind


class Known(BaseModel):
    """No other keys than these."""

    model_config = ConfigDict(extra="forbid")


class Loops(Known):
    """What is made for each of several values."""

    each: dict[str, list[Any]] = {}
    pick: dict[str, str | list[str]] = {}
    let: dict[str, Any] = {}
    unless_equal: list[str] = []


class Node(Loops):
    """An arm, or several: what it loops over, and the runs that it comes to."""

    arms: dict[str, Node] = {}
    overlays: list[str] = Field([], alias="with")
    preset: str | None = None
    name: str | None = None
    baseline: str | None = None
    set: list[str] = []


class Stage(Node):
    folder: str
    seeds: list[int]
    about: str = ""


def _one_of(known: Iterable[str]) -> Any:
    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return name

    return AfterValidator(check)


Selection = Annotated[str, _one_of(SELECTIONS)]


class Way(Known):
    """What a cell shows, see docs/studies.md."""

    show: str = ""
    selection: Selection = ""
    arm: str = ""
    minus: str = ""
    as_good_as: str = Field("", alias="as")
    if_equal: list[str] = []
    text: str = ""
    format: str = ""
    of: dict[str, Way] = {}
    metric: str = ""
    name: str = ""
    decimals: Annotated[int, Field(ge=0)] = 2
    comparisons: Annotated[int, Field(ge=1)] = 1
    until: int = 0
    num_classes: int = 0
    embedding_size: int = 0
    batch_size: int = 0


class Column(Way):
    head: str
    only: str = ""
    any: list[Way] = []


class Row(Loops):
    label: str
    of: str = ""
    among: str = ""
    done: bool = True
    until: int = 0


class Table(Loops):
    """A table, or several: what they loop over."""

    heading: str = ""
    head: str = ""
    rows: list[Row] = []
    columns: list[Column] = []
    metric: str = ""
    until: int = 0
    quarters: bool = False
    pivot: str = ""
    figure: str | None = None
    against: str | None = None
    sections: list[Table] = []

    @model_validator(mode="after")
    def _has_a_name(self) -> Table:
        if self.rows and not (self.heading and self.head):
            raise ValueError("rows need a heading above them and a head of their own")
        return self


class Page(Table):
    title: str
    about: list[str] = []


class Baselines(Known):
    of: str
    arm: str
    minus: str


class ReportOf(Known):
    """A report, and the pages of tables beside it."""

    of: Annotated[list[str], Field(min_length=1)]
    selections: list[Selection] = []
    figures: list[Annotated[str, _one_of(ALL_FIGURES)]] = []
    until: int = 0
    baselines: list[Baselines] = []
    tables: list[Page] = []


class File(Known):
    title: str | None = None
    include: list[Path] = []
    results: Path | None = None
    core_hours: float | None = None
    metrics: list[str] = []
    kinds: dict[str, Kind] = {}
    overlays: list[str] = Field([], alias="with")
    stages: dict[str, Stage] = {}
    reports: dict[str, ReportOf] = {}

    @field_validator("kinds", "stages", "reports", mode="before")
    @classmethod
    def _may_be_empty(cls, value: Any) -> Any:
        return {} if value is None else value


def read(path: Path) -> File:
    """
    Raises:
        StudyError: it cannot be read, or does not have what a study has.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        return File.model_validate(content)
    except ValidationError as error:
        raise StudyError(
            f"{path} is no study, see docs/studies.md: {explained(error)}"
        ) from error
    except (OSError, ValueError, OmegaConfBaseException, yaml.YAMLError) as error:
        raise StudyError(f"{path} is no study: {error}") from error
