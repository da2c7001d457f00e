"""What a study's file may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..errors import StudyError, explained
from .settings import Kind


class Known(BaseModel):
    """No other keys than these."""

    model_config = ConfigDict(extra="forbid")


class Node(Known):
    """An arm, or several: what it loops over, and the runs that it comes to."""

    each: dict[str, list[Any]] = {}
    pick: dict[str, str | list[str]] = {}
    let: dict[str, Any] = {}
    unless_equal: list[str] = []
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


class File(Known):
    title: str | None = None
    include: list[Path] = []
    results: Path | None = None
    core_hours: float | None = None
    metrics: list[str] = []
    kinds: dict[str, Kind] = {}
    overlays: list[str] = Field([], alias="with")
    stages: dict[str, Stage] = {}
    reports: dict[str, dict[str, Any]] = {}

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
