"""Objects from `{ClassName: arguments}`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from . import registry
from .errors import FAILURES, ConfigError, in_words, suggest
from .schema import one_key_message

WEIGHTS = ("weights", "checkpoint")  # where a trunk's come from


def split_spec(spec: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of `{ClassName: arguments}`; a bare name has none."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, dict) or len(spec) != 1:
        raise ConfigError(one_key_message(where, spec))
    name, arguments = next(iter(spec.items()))
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ConfigError(f"{where}.{name}: expected arguments, got {arguments!r}")
    return str(name), {str(key): value for key, value in arguments.items()}


def build(
    kind: str,
    spec: Any,
    where: str,
    given: Mapping[str, Any] | None = None,
    fill: Mapping[str, Any] | None = None,
) -> Any:
    """The object that a config describes.

    Args:
        kind: see `registry.MODULES`.
        spec: `{ClassName: arguments}`. Arguments that are themselves objects, such as
            the loss in a MemVir, are written in the same way.
        where: place in the config, for messages.
        given: arguments that the suite passes and a config must not hold.
        fill: values for arguments of these names, here and in nested objects, wherever
            the config holds none and the class has such an argument.

    Raises:
        ConfigError: a name or argument is unknown, missing or refused by the class.
    """
    name, arguments = split_spec(spec, where)
    where = f"{where}.{name}"
    factory = registry.find(kind, name, where)
    given, fill = dict(given or {}), dict(fill or {})
    parameters = accepted(factory)
    for key in arguments:
        if key in given:
            raise ConfigError(f"{where}.{key} is filled in; leave it out")
        if key not in parameters:
            known = parameters.keys() - given.keys()
            raise ConfigError(f"{where}: unknown argument {key!r}{suggest(key, known)}")
    for key, value in arguments.items():
        default = parameters[key].default
        if type(default) in (int, float) and isinstance(value, (str, bool)):
            raise ConfigError(f"{where}.{key} must be a number, got {value!r}")
    values = {
        key: _value(key, value, f"{where}.{key}", fill)
        for key, value in arguments.items()
    }
    for key in ("num_classes", "embedding_size"):
        if values.get(key) is not None and values[key] != fill.get(key, values[key]):
            raise ConfigError(
                f"{where}.{key} is {values[key]}, but there are {fill[key]}; it is "
                "filled in where it is left out"
            )
    if kind == "reducer" and isinstance(values.get("weights"), list):
        values["weights"] = torch.tensor(values["weights"])
    values |= {k: v for k, v in fill.items() if k in parameters and k not in values}
    values |= given
    missing = [
        key
        for own in _constructors(factory)[:1]
        for key, parameter in _parameters(own).items()
        if parameter.default is parameter.empty and key not in values
    ]
    if missing:
        raise ConfigError(f"{where} needs {', '.join(missing)}")
    try:
        return factory(**values)
    except FAILURES as error:
        raise ConfigError(f"{where}: {in_words(error)}") from error


def accepted(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters by name; where there is `**kwargs`, those of what it goes to, too."""
    found: dict[str, inspect.Parameter] = {}
    for function in _constructors(factory):
        found = {**_parameters(function), **found}
        signature = inspect.signature(function, follow_wrapped=False)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return found


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """A function's own named parameters."""
    signature = inspect.signature(function, follow_wrapped=False)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name != "self"
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def _constructors(factory: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not inspect.isclass(factory):
        wrapped = getattr(factory, "__wrapped__", None)
        return [factory, *(_constructors(wrapped) if wrapped else [])]
    return [
        vars(base)["__init__"]
        for base in factory.__mro__
        if "__init__" in vars(base) and base not in (object, torch.nn.Module)
    ]


def _value(key: str, value: Any, where: str, fill: Mapping[str, Any]) -> Any:
    kind = registry.ARGUMENTS.get(key)
    if kind is not None and value is not None:
        if isinstance(value, list):
            return [
                spec and build(kind, spec, f"{where}[{i}]", fill=fill)
                for i, spec in enumerate(value)
            ]
        if key in ("losses", "miners", "reducers"):  # by name
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: expected classes by name, got {value!r}")
            return {
                name: spec and build(kind, spec, f"{where}.{name}", fill=fill)
                for name, spec in value.items()
            }
        return build(kind, value, where, fill=fill)
    if isinstance(value, str):
        return _from_string(key, value, where)
    return value


def _from_string(key: str, value: str, where: str) -> Any:
    """Dtypes by name, home in paths, `scale: 0.16 1` as powerful-benchmarker has it."""
    if key.endswith("dtype"):
        dtype = getattr(torch, value.removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigError(f"{where}: {value!r} is no dtype of PyTorch")
        return dtype
    if value == "~" or value.startswith("~/"):
        return os.path.expanduser(value)
    words = value.split()
    if len(words) > 1:
        try:
            return [float(word) for word in words]
        except ValueError:
            return value
    return value
