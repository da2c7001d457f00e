"""All names and arguments of a config that are unknown, at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import registry
from .building import accepted, split_spec
from .errors import ConfigError, suggest
from .powerful import BESIDE
from .search import search_key

SINGLE = ("dataset", "split_manager", "sampler", "trainer", "tester", "hook_container")
SEVERAL = {
    "models": "embedder",
    "loss_funcs": "loss",
    "mining_funcs": "miner",
    "optimizers": "optimizer",
}


def unknown_arguments(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and message of each; what is no specification of a class is left alone."""
    for key in SINGLE:
        yield from _of_spec(key.replace("_", " "), values.get(key), key)
    for key, kind in SEVERAL.items():
        for name, spec in _mapping(values.get(key)).items():
            own = "trunk" if (key, name) == ("models", "trunk") else kind
            yield from _of_spec(own, spec, f"{key}.{name}")
    for key, listed in _mapping(values.get("transforms")).items():
        for name, arguments in _mapping(listed).items():
            yield from _of_spec("transform", {name: arguments}, f"transforms.{key}")


def _of_spec(kind: str, spec: Any, where: str) -> Iterator[tuple[str, str]]:
    try:
        name, arguments = split_spec(spec, where)
        where = f"{where}.{name}"
        parameters = accepted(registry.find(kind, name, where))
    except ConfigError as error:
        if isinstance(spec, dict) and len(spec) == 1:
            yield f"{where}", str(error)
        return
    for given, value in arguments.items():
        key, _ = search_key(given)  # a range has the name that its value will have
        if kind == "optimizer" and key in BESIDE:
            if key != "clip_grad_norm" and value:
                yield from _of_spec("scheduler", value, f"{where}.{key}")
        elif key not in parameters:
            hint = suggest(key, parameters)
            yield f"{where}.{key}", f"{where}: unknown argument {key!r}{hint}"
        elif key in registry.ARGUMENTS and isinstance(value, dict):
            inner = registry.ARGUMENTS[key]
            if key in ("losses", "miners", "reducers"):
                for one, spec in value.items():
                    yield from _of_spec(inner, spec, f"{where}.{key}.{one}")
            else:
                yield from _of_spec(inner, value, f"{where}.{key}")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
