"""Settings that a study's file names: groups of overrides that go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from ..errors import StudyError

Context = Mapping[str, Any]


class Kind(BaseModel):
    """What settings of a kind are made of.

    Attributes:
        fields: what a setting given as a list has, in order.
        set: overrides a.b=VALUE, templates over the fields.
        name: what a setting is in the names of experiments; a template, whose parts are
            put together, and one whose field is not given is left out. Further keys are
            texts as this one.
    """

    model_config = ConfigDict(extra="allow")
    fields: list[str]
    set: list[str]
    name: str | list[str]

    @model_validator(mode="after")
    def _are_of_its_fields(self) -> Kind:
        texts = [self.set, *map(self.text, ("name", *(self.model_extra or {})))]
        for text in texts:
            if not (isinstance(text, list) and all(isinstance(x, str) for x in text)):
                raise ValueError(f"expected text or a list of it, got {text!r}")
            for part in text:
                for _, field, *_ in Formatter().parse(part):
                    if field not in (None, *self.fields):
                        raise ValueError(
                            f"{part!r} has {{{field}}}, which is none of the fields "
                            f"{', '.join(self.fields)}; a brace itself is written twice"
                        )
        return self

    def text(self, name: str) -> list[str] | None:
        """The parts of a template."""
        text = {"name": self.name, **(self.model_extra or {})}.get(name)
        return [text] if isinstance(text, str) else text

    def make(self, value: Any, place: str) -> Setting:
        """A setting of a list or a mapping of its fields."""
        if isinstance(value, list) and len(value) <= len(self.fields):
            value = dict(zip(self.fields, value))
        if not isinstance(value, Mapping) or {*value} - {*self.fields}:
            raise StudyError(
                f"{place}: expected a list or mapping of {', '.join(self.fields)}, "
                f"got {value!r}"
            )
        return Setting(self, {k: v for k, v in value.items() if v is not None})


class Setting:
    """Learning rates, for example; in templates by its fields and its kind's texts."""

    def __init__(self, kind: Kind, values: Mapping[str, Any]) -> None:
        self.kind = kind
        self.values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["values"]:
            return self.values[name]
        if (parts := self.kind.text(name)) is not None:
            return "".join(self._filled(parts))
        raise AttributeError(name)

    def __str__(self) -> str:
        return str(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self.values == other.values

    @property
    def overrides(self) -> list[str]:
        return list(self._filled(self.kind.set))

    def changed(self, changes: Mapping[str, Any], place: str) -> Setting:
        """With other fields: values, {times: NUMBER}, or {other: [ONE, TWO]}."""
        values = dict(self.values)
        for name, change in changes.items():
            if isinstance(change, Mapping):
                change = self._derived(name, change, place)
            values[name] = change
        return self.kind.make(values, place)

    def _derived(self, name: str, change: Mapping[str, Any], place: str) -> Any:
        had = self.values.get(name)
        match list(change.items()), had:
            case [("times", int() | float() as factor)], int() | float():
                return had * factor
            case [("other", [one, two])], _ if had in (one, two):
                return two if had == one else one
        raise StudyError(
            f"{place}: {name} was {had!r}; expected {{times: NUMBER}}, or {{other: "
            f"[ONE, TWO]}} where it was one of them, got {change!r}"
        )

    def _filled(self, parts: Iterable[str]) -> Iterable[str]:
        for part in parts:
            try:
                yield part.format(**self.values)
            except KeyError:
                continue


class Picked:
    """The run that a setting was picked by: what it had, and its `experiment`."""

    def __init__(self, context: Context, experiment: str) -> None:
        self.__dict__.update(context, experiment=experiment)


def filled(template: str, context: Context, place: str) -> str:
    """A template {a.b} with what the context has."""
    try:
        return template.format(**context)
    except (KeyError, AttributeError, IndexError, ValueError) as error:
        known = ", ".join(context) or "nothing"
        raise StudyError(
            f"{place}: cannot fill in {template!r} ({error}); there is {known}"
        ) from error


def found(path: str, context: Context, place: str) -> Any:
    """What a dotted path refers to."""
    first, *rest = path.split(".")
    try:
        value = context[first]
        for name in rest:
            value = getattr(value, name)
    except (KeyError, AttributeError) as error:
        known = ", ".join(context) or "nothing"
        raise StudyError(f"{place}: there is no {path!r}, but {known}") from error
    return value


def equal(paths: Iterable[str], context: Context, place: str) -> bool:
    """Whether all that they refer to is the same."""
    values = [found(path, context, place) for path in paths]
    return all(value == values[0] for value in values)


def value_of(
    name: str, given: Any, kinds: Mapping[str, Kind], context: Context, place: str
) -> Any:
    """What `let` and `each` give: text, a list, {KIND: ...} or {of: PATH, changes}.

    A variable that is called as a kind is of it.
    """
    is_mapping = isinstance(given, Mapping)
    if is_mapping and "of" in given:
        base = found(given["of"], context, place)
        changes = {name: change for name, change in given.items() if name != "of"}
        if changes and not isinstance(base, Setting):
            raise StudyError(f"{place}: {given['of']} has no fields to change")
        return base.changed(changes, place) if changes else base
    if is_mapping and len(given) == 1 and (kind := next(iter(given))) in kinds:
        return kinds[kind].make(given[kind], f"{place}, {kind}")
    if name in kinds:
        return kinds[name].make(given, f"{place}, {name}")
    if is_mapping:
        raise StudyError(
            f"{place}: expected a value, {{of: ...}} or one of {', '.join(kinds)} with "
            f"its value, got {given!r}"
        )
    return filled(given, context, place) if isinstance(given, str) else given
