"""Configs: written as powerful-benchmarker's YAML, checked before anything runs."""

from .errors import ConfigError
from .layers import preset_names
from .loading import differences, load, load_saved, load_values, save
from .reading import read_resolved
from .schema import Config

__all__ = [
    "Config",
    "ConfigError",
    "differences",
    "load",
    "load_saved",
    "load_values",
    "preset_names",
    "read_resolved",
    "save",
]
