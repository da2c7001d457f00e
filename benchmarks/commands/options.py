"""Arguments and options that several commands have."""

from __future__ import annotations

import fnmatch
import itertools
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import click


class UserPath(click.Path):
    """A path; ~ is the user's home, also where the shell does not see to it."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


FOLDER = UserPath(path_type=Path, file_okay=False)


class Command(click.Command):
    """Answers powerful-benchmarker's `--key value` by how it is spelt here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = [word.partition("=")[0] for word in words]
            if error.option_name not in names:  # one letter, among others
                raise
            place = names.index(error.option_name)
            raise click.UsageError(f"{error}\n{spelt(words[place:])}", ctx) from error


def spelt(words: list[str]) -> str:
    """How to write what began with `--key`, the first of these words."""
    key, equals, value = words[0].removeprefix("--").partition("=")
    if not equals:
        following = itertools.takewhile(lambda w: not w.startswith("--"), words[1:])
        value = " ".join(following)
    if key.startswith("config_"):
        names = [name for name in value.split() if name != "default"]
        files = " ".join(f"--with {key}/{name}" for name in names)
        return f"Files of configs are laid over by {files or '--with FILE'}"
    if key in ("root_experiment_folder", "experiment_folder"):
        return f"Folders of runs go to --output {value}"
    return (
        f"Values of a config are written without --, as {shlex.quote(f'{key}={value}')}"
    )


def existing(folder: bool | None = None) -> UserPath:
    """A path that is there: a folder, a file (False), or either (None)."""
    return UserPath(
        path_type=Path, exists=True, file_okay=not folder, dir_okay=folder is not False
    )


names_and_overrides = click.argument(
    "what", nargs=-1, metavar="[NAME]... [a.b=VALUE]..."
)
with_files = click.option(
    "--with",
    "extra",
    multiple=True,
    metavar="FILE",
    help="Lay this file over the configs: a path, or an overlay such as resnet50, "
    "cross_validation, validation, amp. Can be given several times.",
)
output = click.option(
    "--output",
    type=FOLDER,
    default=Path("output/runs"),
    help="Runs are kept in a folder of their name in here.",
)
device = click.option(
    "--device", help="cpu or cuda.  [default: cuda if there is one, else cpu]"
)


def quiet_bars() -> None:
    """Bars of PML's loops go when they are full, and are for terminals only.

    tqdm reads this when it is imported. PML's bars format the loss, of which PyTorch
    warns.
    """
    warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
    os.environ.setdefault("TQDM_LEAVE", "")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


def torch_device(name: str | None) -> Any:
    """The device, or None for the default one."""
    import torch

    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        hint = "" if name.startswith("cuda") else "; expected cpu or cuda"
        reason = str(error).splitlines()[0][:60]
        raise click.BadParameter(f"{name!r}{hint} ({reason})", param_hint="--device")
    return device


def split_names(what: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Names of configs, `*` and `?` filled in from the presets; and the overrides."""
    from ..config import preset_names

    names: list[str] = []
    for word in (w for w in what if "=" not in w):
        found = fnmatch.filter(preset_names(), word) if set("*?[") & set(word) else []
        names += found or [word]
    return names, [w for w in what if "=" in w]


def note(text: str) -> None:
    """Tell something that is no error, apart from the output."""
    click.echo(text, err=True)


def load_all(
    what: tuple[str, ...], extra: tuple[str, ...], every_preset: bool = False
) -> list[Any]:
    """The configs of all names; all are read before the first is used."""
    from ..config import load, preset_names

    names, overrides = split_names(what)
    if not names and every_preset:
        names = preset_names()
    if not names:
        raise click.UsageError(
            "name a preset or a YAML file (`python -m benchmarks list` shows them)"
        )
    configs = [load(name, extra, overrides, note) for name in dict.fromkeys(names)]
    by_name = [config.experiment_name for config in configs]
    if len(set(by_name)) < len(by_name):
        raise click.UsageError(
            f"several configs have one experiment_name: {', '.join(by_name)}"
        )
    return configs
