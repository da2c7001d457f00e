"""The command line: `python -m benchmarks`."""

from __future__ import annotations

import click

from .commands import data, experiments, others, reports, studies


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
