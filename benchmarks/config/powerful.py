"""powerful-benchmarker's words: what is done anyway, spelt otherwise, or not there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

WORDS = yaml.safe_load(Path(__file__).with_name("powerful.yaml").read_text("utf-8"))
BESIDE: list[str] = WORDS["beside"]


def says_what_is_done(value: Any, word: dict[str, Any]) -> bool:
    """Whether this value of a word asks for nothing else; see powerful.yaml."""
    if "values" in word:
        return value in word["values"]
    if "class" in word:
        only = isinstance(value, dict) and list(value) == [word["class"]]
        return not value or only
    if "among" in word:
        return {*(value or ())} <= {*word["among"]}
    if "factories" in word:
        return all(
            isinstance(of, dict)
            and all(n.endswith("Factory") and not a for n, a in of.items())
            for of in (value or {}).values()
        )
    return True


def translated(
    values: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    values = copy.deepcopy(values)
    left_out: dict[str, str] = {}
    problems: dict[str, str] = {}

    def take_out(of: dict[str, Any], words: dict[str, Any], place: str = "") -> None:
        for name in [name for name in of if name in words]:
            word = words[name]
            if word.get("keep") and type(of[name]) is int:
                continue
            found = left_out if says_what_is_done(of.pop(name), word) else problems
            found[place + name] = word["said"]

    take_out(values, WORDS["anyway"])
    for word in [word for word in values if word in WORDS["elsewhere"]]:
        del values[word]
        problems[word] = WORDS["elsewhere"][word]
    for place, words in WORDS["arguments"].items():
        for name, arguments in _classes(values.get(place)):
            take_out(arguments, words, f"{place}.{name}.")
    if values.get("sampler") == {}:
        values["sampler"] = None
    for key in ("mining_funcs", "transforms"):
        if key in values and values[key] is None:
            values[key] = {}
    _pretrained(values.get("models"))
    _into_the_class(values.get("optimizers"))
    return values, left_out, problems


def _classes(spec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name and arguments, as far as there are any."""
    if not isinstance(spec, dict):
        return []
    return [(n, a) for n, a in spec.items() if isinstance(a, dict)]


def _pretrained(models: Any) -> None:
    if not isinstance(models, dict):
        return
    for name, arguments in _classes(models.get("trunk")):
        if arguments.pop("pretrained", None):
            known = "resnet" if name.startswith("resnet") else name
            if not {"weights", "checkpoint"} & set(arguments):
                arguments.update(WORDS["pretrained"].get(known, {}))


def _into_the_class(optimizers: Any) -> None:
    if not isinstance(optimizers, dict):
        return
    for spec in optimizers.values():
        if not isinstance(spec, dict):
            continue
        beside = {word: spec[word] for word in BESIDE if word in spec}
        classes = [name for name in spec if name not in BESIDE]
        if not beside or len(classes) != 1:
            continue
        for word in beside:
            del spec[word]
        (name,) = classes
        spec[name] = {**(spec[name] or {}), **beside}
