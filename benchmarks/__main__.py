"""The command line: `python -m benchmarks`."""

from __future__ import annotations

from typing import Any

import click

from .commands import data, experiments, others, reports, studies
from .commands.failures import plain_errors

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


class Group(click.Group):
    """What a user can put right is a message, whichever command says it."""

    def invoke(self, ctx: click.Context) -> Any:
        return plain_errors(super().invoke)(ctx)


@click.group(cls=Group, context_settings=SETTINGS)
def main() -> None:
    """Benchmarks of pml_memvir: the paper's tables from configs, speed, a demo."""


for command in (
    experiments.run,
    reports.report,
    reports.pack,
    reports.unpack,
    experiments.evaluate,
    experiments.tune,
    experiments.list_names,
    experiments.check,
    studies.study,
    data.data,
    others.speed,
    others.share,
    others.precision,
    others.gpu,
    others.demo,
    others.glyphs,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
