"""Mappings from YAML files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import ConfigError
from .references import resolved


def read(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, interpolations not yet resolved."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        loaded = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not in UTF-8 (byte {error.start}); save it again as UTF-8"
        ) from error
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a mapping, got a {type(loaded).__name__}")
    return {str(key): value for key, value in loaded.items()}


def read_resolved(path: Path) -> dict[str, Any]:
    """A YAML file's mapping from anybody, references to its own values resolved.

    Nothing outside of the file is looked at: see `references`.

    Raises:
        ConfigError: it cannot be read, or refers to something else.
    """
    try:
        return resolved(read(path))
    except ConfigError as error:
        raise ConfigError(_with_path(path, error)) from error


def _with_path(path: Path, error: ConfigError) -> str:
    said = str(error)
    return said if said.startswith(str(path)) else f"{path}: {said}"
