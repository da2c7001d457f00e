"""A study's file: its settings and stages, and the runs that these come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from ..config import ConfigError
from ..errors import NotPicked, StudyError
from .jobs import Job
from .results import Results
from .schema import File, Node, Stage, read
from .settings import Context, Kind, Picked, Setting, equal, filled, found, value_of


class Study:
    """What a file says, and the files that it includes.

    Attributes:
        results: where its runs are kept.
        core_hours: no run is started when so much is spent; None: no limit.
        stages, reports: by name.
    """

    def __init__(self, file: Path, results: Path | None = None) -> None:
        """
        Raises:
            StudyError: the file is missing or wrong.
        """
        self.file = file
        self.kinds: dict[str, Kind] = {}
        self.stages: dict[str, Stage] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self._folders: dict[str, Path] = {}  # of the files that stages are in
        self._included: set[Path] = set()
        top = self._include(file)
        self.core_hours = top.core_hours
        self.metrics = top.metrics
        folder = Path("output") / file.stem
        in_file = file.parent / top.results if top.results else folder
        self.results = Results((results or in_file).resolve())
        self._jobs: dict[str, list[Job]] = {}

    @property
    def folders(self) -> list[str]:
        """The parts of the results."""
        return list(dict.fromkeys(stage.folder for stage in self.stages.values()))

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
            jobs = [
                job
                for seed in node.seeds
                for job in self._expanded(node, {}, seed, [stage], [])
            ]
            named: dict[tuple[str, int], Job] = {}
            for job in jobs:
                if named.setdefault((job.key, job.seed), job) != job:
                    raise StudyError(
                        f"{self.file}, {stage}: two runs of other settings are called "
                        f"{job.key}, seed {job.seed}: `name` must tell them apart"
                    )
            self._jobs[stage] = jobs
        return self._jobs[stage]

    def check(self, stages: Iterable[str]) -> None:
        """Load the config of each experiment that is not finished.

        Stages whose settings cannot be picked yet are left out.

        Raises:
            StudyError: configs are wrong; says which, and what of each is.
        """
        wrong: dict[str, list[str]] = {}
        for stage in stages:
            try:
                jobs = self.jobs(stage)
            except NotPicked:
                continue
            left = {job.key: job for job in jobs if not self.results.finished(job)}
            for key, job in left.items():
                try:
                    job.config()
                except ConfigError as error:
                    wrong.setdefault(str(error), []).append(f"{stage}, {key}")
        if wrong:
            lines = [
                f"{first}{f' and {len(more)} more' if more else ''}: {said}"
                for said, (first, *more) in wrong.items()
            ]
            raise StudyError(f"{self.file}: " + "\n".join(lines))

    def arms(self, of: str, context: Context, done: bool = True) -> list[Job]:
        """A run of each experiment of STAGE or STAGE.ARM that agrees with the context.

        Args:
            done: only experiments with a finished run.

        Raises:
            NotPicked: they depend on runs that are not finished.
        """
        chosen: dict[str, Job] = {}
        for job in self._agreeing(of, context):
            if not done or self.results.finished(job):
                chosen.setdefault(job.key, job)
        return list(chosen.values())

    def _agreeing(self, of: str, context: Context) -> Iterator[Job]:
        """All runs of STAGE or STAGE.ARM that agree with the context."""
        stage, _, arm = of.partition(".")
        texts = {k: v for k, v in context.items() if isinstance(v, (str, int, float))}
        for job in self.jobs(stage):
            agrees = all(job.context.get(k, v) == v for k, v in texts.items())
            if agrees and f"{job.arm}.".startswith(f"{arm}." if arm else ""):
                yield job

    def contexts(
        self, node: Mapping[str, Any], outer: Context, place: str
    ) -> Iterator[dict[str, Any]]:
        """What a node's `each`, `pick` and `let` come to, one after the other."""
        each = {
            name: [value_of(name, one, self.kinds, outer, place) for one in values]
            for name, values in node.get("each", {}).items()
        }
        for values in product(*each.values()):
            context = {**outer, **dict(zip(each, values))}
            for name, stages in node.get("pick", {}).items():
                context[name] = self._picked(stages, context)
            for name, value in node.get("let", {}).items():
                context[name] = value_of(name, value, self.kinds, context, place)
            same = node.get("unless_equal")
            if not same or not equal(same, context, place):
                yield context

    def _picked(self, stages: str | list[str], context: Context) -> Picked:
        """The experiment that is best on held-out classes; of equals the first."""
        names = [stages] if isinstance(stages, str) else stages
        jobs = [job for of in names for job in self._agreeing(of, context)]
        if not jobs:
            raise StudyError(f"{self.file}: nothing to pick of {', '.join(names)}")
        scores: dict[str, dict[int, float]] = {}
        for job in jobs:
            scores.setdefault(job.key, {})[job.seed] = self.results.held_out(job)
        best = max(scores, key=lambda key: fmean(scores[key].values()))
        return Picked(next(j.context for j in jobs if j.key == best), best)

    def _expanded(
        self, node: Node, outer: Context, seed: int, path: list[str], over: list[str]
    ) -> Iterator[Job]:
        """
        Args:
            path: of the node, from its stage on.
            over: overlays of the nodes that it is in.
        """
        place = f"{self.file.name}, {'.'.join(path)}"
        over = [*over, *node.overlays]
        for context in self.contexts(vars(node), outer, place):
            for name, arm in node.arms.items():
                yield from self._expanded(arm, context, seed, [*path, name], over)
            if node.preset is None:
                continue
            base, baseline = self._folders[path[0]], node.baseline
            named = filled(node.preset, context, place)
            preset = _beside(named, base)
            overrides: list[str] = []
            for one in node.set:
                if "=" in one:
                    overrides.append(filled(one, context, place))
                    continue
                value = found(one, context, place)
                overrides += value.overrides if isinstance(value, Setting) else value
            yield Job(
                folder=self.stages[path[0]].folder,
                name=filled(node.name or named.removesuffix(".yaml"), context, place),
                preset=str(preset),
                files=tuple(_beside(filled(o, context, place), base) for o in over),
                overrides=tuple(overrides),
                seed=seed,
                baseline=baseline and filled(baseline, context, place),
                arm=".".join(path[1:]),
                context=context,
            )

    def _include(self, file: Path) -> File:
        top = read(file)
        self._included.add(file.resolve())
        self.kinds |= top.kinds
        for other in top.include:
            if (file.parent / other).resolve() not in self._included:
                self._include(file.parent / other)
        if twice := [name for name in top.stages if name in self.stages]:
            raise StudyError(f"{file}: there are stages {', '.join(twice)} already")
        for name, stage in top.stages.items():
            stage.overlays = [*top.overlays, *stage.overlays]
            self.stages[name], self._folders[name] = stage, file.parent
        self.reports |= {
            name: of.model_dump(by_alias=True, exclude_unset=True)
            for name, of in top.reports.items()
        }
        return top


def _beside(name: str, base: Path) -> Path:
    """A file beside the one that names it, or what the benchmarks have by a name."""
    is_file = Path(name).suffix in (".yaml", ".yml")
    return (base / name).resolve() if is_file else Path(name)
