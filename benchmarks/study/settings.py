"""Settings that a study's file names: groups of overrides that go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import StudyError

Context = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What settings of a kind are made of.

    Attributes:
        fields: what a setting given as a list has, in order.
        texts: templates over the fields, by name; their parts are put together, and
            one whose field is not given is left out. `name` is what a setting is in the
            names of experiments.
        set: overrides a.b=VALUE, templates as well.
    """

    name: str
    fields: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    set: tuple[str, ...]

    def make(self, value: Any, place: str) -> Setting:
        """A setting of a list or a mapping of its fields."""
        if isinstance(value, list) and len(value) <= len(self.fields):
            value = dict(zip(self.fields, value))
        if not isinstance(value, Mapping) or set(value) - set(self.fields):
            raise StudyError(
                f"{place}: expected {self.name} as a list or mapping of "
                f"{', '.join(self.fields)}, got {value!r}"
            )
        return Setting(self, {k: v for k, v in value.items() if v is not None})


class Setting:
    """Learning rates, for example; in templates by its fields and its kind's texts."""

    def __init__(self, kind: Kind, values: Mapping[str, Any]) -> None:
        self.kind = kind
        self.values = dict(values)

    def __getattr__(self, name: str) -> Any:
        values, texts = self.__dict__["values"], self.__dict__["kind"].texts
        if name in values:
            return values[name]
        if name in texts:
            return "".join(self._filled(texts[name]))
        raise AttributeError(name)

    def __str__(self) -> str:
        return str(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and self.values == other.values

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.values.items())))

    @property
    def overrides(self) -> list[str]:
        return list(self._filled(self.kind.set))

    def changed(self, changes: Mapping[str, Any], place: str) -> Setting:
        """With other fields: values, {times: NUMBER}, or {other: [ONE, TWO]}."""
        values = dict(self.values)
        for name, change in changes.items():
            if isinstance(change, Mapping):
                ((how, what),) = change.items()
                if how == "times":
                    change = values[name] * what
                elif how == "other":
                    (change,) = [one for one in what if one != values[name]]
                else:
                    raise StudyError(f"{place}: expected times or other, got {how!r}")
            values[name] = change
        return self.kind.make(values, place)

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


def value_of(
    given: Any, kinds: Mapping[str, Kind], context: Context, place: str
) -> Any:
    """What `let` and `each` give: text, a list, {KIND: ...} or {of: PATH, changes}."""
    if not isinstance(given, Mapping):
        return filled(given, context, place) if isinstance(given, str) else given
    if "of" in given:
        base = found(given["of"], context, place)
        changes = {name: change for name, change in given.items() if name != "of"}
        return base.changed(changes, place) if changes else base
    if len(given) == 1 and (kind := next(iter(given))) in kinds:
        return kinds[kind].make(given[kind], place)
    raise StudyError(
        f"{place}: expected a value, {{of: ...}} or one of {', '.join(kinds)} with its "
        f"value, got {given!r}"
    )
