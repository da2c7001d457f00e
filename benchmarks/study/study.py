"""A study's file: its settings and stages, and the runs that these come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import StudyError
from .jobs import Job
from .results import Results
from .settings import Context, Kind, Picked, Setting, filled, found, value_of

TOP = {
    *("title", "include", "results", "core_hours", "metrics", "kinds", "with"),
    *("stages", "reports"),
}
NODE = {
    *("each", "pick", "let", "unless_equal", "arms", "with"),
    *("preset", "name", "baseline", "set"),
}
STAGE = {*NODE, "folder", "seeds", "about"}


class Study:
    """What a file says, and the files that it includes.

    Attributes:
        results: where its runs are kept.
        core_hours: no run is started when so much is spent; None: no limit.
        stages, reports: by name, as they are in the files.
    """

    def __init__(self, file: Path, results: Path | None = None) -> None:
        """
        Raises:
            StudyError: the file is missing or wrong.
        """
        self.file = file
        self.kinds: dict[str, Kind] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        top = self._include(file)
        self.title = str(top.get("title", file.stem))
        self.core_hours: float | None = top.get("core_hours")
        self.metrics: list[str] = list(top.get("metrics", []))
        folder = Path(top.get("results", f"output/{file.stem}"))
        in_file = file.parent / folder if "results" in top else folder
        self.results = Results((results or in_file).resolve())
        self._jobs: dict[str, list[Job]] = {}

    @property
    def folders(self) -> list[str]:
        """The parts of the results."""
        return list(dict.fromkeys(stage["folder"] for stage in self.stages.values()))

    def refresh(self) -> None:
        """Look again at what is finished."""
        self.results.refresh()
        self._jobs.clear()

    def jobs(self, stage: str) -> list[Job]:
        """A stage's runs, in their order.

        Raises:
            NotPicked: they depend on runs that are not finished.
            StudyError: the stage is wrong, or there is none of this name.
        """
        if stage not in self.stages:
            known = ", ".join(self.stages)
            raise StudyError(f"{self.file}: expected one of {known}, got {stage!r}")
        if stage not in self._jobs:
            node = self.stages[stage]
            self._jobs[stage] = [
                job
                for seed in node["seeds"]
                for job in self._expanded(node, {}, seed, [stage])
            ]
        return self._jobs[stage]

    def arms(self, of: str, context: Context, done: bool = True) -> list[Job]:
        """A run of each experiment of STAGE or STAGE.ARM that agrees with the context.

        Args:
            done: only experiments with a finished run.

        Raises:
            NotPicked: they depend on runs that are not finished.
        """
        stage, _, arm = of.partition(".")
        texts = {k: v for k, v in context.items() if isinstance(v, (str, int, float))}
        chosen: dict[str, Job] = {}
        for job in self.jobs(stage):
            agrees = all(job.context.get(k, v) == v for k, v in texts.items())
            inside = f"{job.arm}.".startswith(f"{arm}." if arm else "")
            if agrees and inside and (not done or self.results.finished(job)):
                chosen.setdefault(job.key, job)
        return list(chosen.values())

    def contexts(
        self, node: Mapping[str, Any], outer: Context, place: str
    ) -> Iterator[dict[str, Any]]:
        """What a node's `each`, `pick` and `let` come to, one after the other."""
        each = {
            name: [self._value(name, one, outer, place) for one in values]
            for name, values in node.get("each", {}).items()
        }
        for values in product(*each.values()):
            context = {**outer, **dict(zip(each, values))}
            for name, stages in node.get("pick", {}).items():
                context[name] = self._picked(stages, context)
            for name, value in node.get("let", {}).items():
                context[name] = self._value(name, value, context, place)
            same = node.get("unless_equal")
            if same is None or len({found(p, context, place) for p in same}) > 1:
                yield context

    def _picked(self, stages: str | list[str], context: Context) -> Picked:
        """The run that is best on held-out classes; of equals the first."""
        names = [stages] if isinstance(stages, str) else stages
        jobs = [job for of in names for job in self.arms(of, context, done=False)]
        if not jobs:
            raise StudyError(f"{self.file}: nothing to pick of {', '.join(names)}")
        best = max(jobs, key=self.results.held_out)
        return Picked(best.context, best.key)

    def _expanded(
        self, node: Mapping[str, Any], outer: Context, seed: int, path: list[str]
    ) -> Iterator[Job]:
        place = f"{self.file.name}, {'.'.join(path)}"
        for context in self.contexts(node, outer, place):
            for name, arm in node.get("arms", {}).items():
                _known(arm, NODE, f"{place}.{name}")
                inner = {**{key: node[key] for key in ("folder", "base")}, **arm}
                inner["with"] = [*node["with"], *arm.get("with", ())]
                yield from self._expanded(inner, context, seed, [*path, name])
            if "preset" in node:
                yield self._job(node, context, seed, path, place)

    def _job(
        self,
        node: Mapping[str, Any],
        context: Context,
        seed: int,
        path: list[str],
        place: str,
    ) -> Job:
        overrides: list[str] = []
        for one in node.get("set", ()):
            if "=" in one:
                overrides.append(filled(one, context, place))
                continue
            value = found(one, context, place)
            overrides += value.overrides if isinstance(value, Setting) else value
        baseline = node.get("baseline")
        preset = filled(node["preset"], context, place)
        return Job(
            node["folder"],
            filled(node.get("name", preset), context, place),
            preset,
            tuple(
                _overlay(filled(one, context, place), node["base"])
                for one in node["with"]
            ),
            tuple(overrides),
            seed,
            None if baseline is None else filled(baseline, context, place),
            ".".join(path[1:]),
            context,
        )

    def _value(self, name: str, given: Any, context: Context, place: str) -> Any:
        """A variable that is called as a kind is of it."""
        is_of_kind = name in self.kinds and not (
            isinstance(given, Mapping) and ("of" in given or name in given)
        )
        return value_of(
            {name: given} if is_of_kind else given, self.kinds, context, place
        )

    def _include(self, file: Path) -> dict[str, Any]:
        top = _read(file)
        _known(top, TOP, str(file))
        for key in ("kinds", "stages", "reports"):
            _known(
                top.setdefault(key, {}),
                set(top[key]) if isinstance(top[key], Mapping) else set(),
                f"{file}, {key}",
            )
        for name, kind in top["kinds"].items():
            _has(kind, ("fields", "name", "set"), f"{file}, {name}")
            texts = {
                key: tuple(parts) if isinstance(parts, list) else (parts,)
                for key, parts in kind.items()
                if key not in ("fields", "set")
            }
            fields, overrides = tuple(kind["fields"]), tuple(kind["set"])
            self.kinds[name] = Kind(name, fields, texts, overrides)
        for other in top.get("include", ()):
            self._include(file.parent / other)
        for name, stage in top["stages"].items():
            _known(stage, STAGE, f"{file}, {name}")
            _has(stage, ("folder", "seeds"), f"{file}, {name}")
            files = [*top.get("with", ()), *stage.get("with", ())]
            self.stages[name] = {**stage, "with": files, "base": file.parent}
        self.reports |= top["reports"]
        return top


def _overlay(name: str, base: Path) -> Path:
    """A file beside the one that names it, or an overlay of the benchmarks."""
    return (base / name).resolve() if Path(name).suffix else Path(name)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OSError, ValueError, OmegaConfBaseException, yaml.YAMLError) as error:
        raise StudyError(f"{file} is no study: {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{file}: expected a mapping with {', '.join(sorted(TOP))}")
    return {str(key): value for key, value in content.items()}


def _known(node: Any, keys: set[str], place: str) -> None:
    if not isinstance(node, Mapping):
        raise StudyError(f"{place}: expected a mapping, got {node!r}")
    for key in node:
        if key not in keys:
            raise StudyError(
                f"{place}: expected {', '.join(sorted(keys))}, got {key!r}"
            )


def _has(node: Any, keys: tuple[str, ...], place: str) -> None:
    for key in keys:
        if not isinstance(node, Mapping) or key not in node:
            raise StudyError(f"{place}: expected {key!r}, got {node!r}")
