"""Which class a name in a config means."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError, suggest

# Where names are looked up, what arguments hold, and which names cannot work here.
NAMES = yaml.safe_load(Path(__file__).with_name("registry.yaml").read_text("utf-8"))
MODULES: dict[str, list[str]] = NAMES["modules"]
ARGUMENTS: dict[str, str] = NAMES["arguments"]
UNUSABLE: dict[str, dict[str, str]] = NAMES["unusable"]

_extra: dict[str, dict[str, Callable[..., Any]]] = {}


def register(kind: str, thing: Callable[..., Any], name: str | None = None) -> None:
    """Make a class or function of one's own known to configs."""
    if kind not in MODULES:
        raise ConfigError(f"unknown kind {kind!r}{suggest(kind, MODULES)}")
    _extra.setdefault(kind, {})[name or thing.__name__] = thing


def names(kind: str) -> list[str]:
    """All names of a kind that can work in a config."""
    found: dict[str, Any] = {}
    for module in MODULES[kind]:
        found.update(_named(module, kind))
    for name in UNUSABLE.get(kind, {}):
        found.pop(name, None)
    found.update(_extra.get(kind, {}))
    return sorted(name for name in found if _is_meant(name, found[name]))


def _is_meant(name: str, thing: Any) -> bool:
    """Not what a module has for its own use: bases, mixins, errors, enumerations."""
    if inspect.isclass(thing) and issubclass(thing, (Exception, enum.Enum)):
        return False
    return not (name.startswith("Base") or "Mixin" in name)


def find(kind: str, name: str, where: str) -> Callable[..., Any]:
    """The class or function of this name.

    Raises:
        ConfigError: there is none, or it cannot work here; says why.
    """
    if name in _extra.get(kind, {}):
        return _extra[kind][name]
    if name in UNUSABLE.get(kind, {}):
        raise ConfigError(f"{where}: {name} cannot work here: {UNUSABLE[kind][name]}")
    for module in MODULES[kind]:
        things = _named(module, kind)
        if name in things:
            return things[name]
    raise ConfigError(f"{where}: unknown {kind} {name!r}{suggest(name, names(kind))}")


def _named(place: str, kind: str) -> dict[str, Any]:
    name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a {kind} is looked up in {name}, which needs {error.name}: "
            "pip install -e '.[bench]'"
        ) from error
    return dict(getattr(module, attribute)) if attribute else _public(module)


def _public(module: Any) -> dict[str, Any]:
    """A module's classes, and functions that stand for one."""
    listed = getattr(module, "__all__", None) or vars(module)
    return {
        name: getattr(module, name)
        for name in listed
        if not name.startswith("_")
        and callable(getattr(module, name))
        and not (listed is vars(module) and _is_elsewhere(module, name))
    }


def _is_elsewhere(module: Any, name: str) -> bool:
    """Whether a module only uses the thing: it comes from another package."""
    home = getattr(getattr(module, name), "__module__", "") or ""
    return home.split(".")[0] != module.__name__.split(".")[0]
