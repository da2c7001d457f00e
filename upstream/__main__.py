"""The command line: `python -m upstream`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from . import KitError, patch
from .build import SOURCE, build, examples
from .checks import check
from .source import VERSION, fetch, unpack

TOOLS = ("black", "flake8", "isort")
PATCH = "memvir.patch"


def main(arguments: list[str] | None = None) -> int:
    """Make the patch and check it; 0 if all is well."""
    options = _parser().parse_args(arguments)
    try:
        for tool in TOOLS:
            if importlib.util.find_spec(tool) is None:
                raise KitError(
                    f"the kit needs {', '.join(TOOLS)}, and {tool} is not installed: "
                    "pip install '.[upstream]'"
                )
        source = options.source or fetch(options.output)
        with tempfile.TemporaryDirectory(prefix="pml-memvir-") as scratch:
            return _run(source, options.output, Path(scratch), options.check)
    except KitError as error:
        print(f"python -m upstream: {error}", file=sys.stderr)
        return 2


def _run(source: Path, output: Path, scratch: Path, with_checks: bool) -> int:
    original = unpack(source, scratch / "original")
    changed = unpack(source, scratch / "changed")
    built = build(original)
    text = patch.make(changed, built.files)
    output.mkdir(parents=True, exist_ok=True)
    write(output / PATCH, text)
    for name, part in built.beside.items():
        write(output / name, part)
    added = sum(line.startswith("+") for line in text.splitlines())
    print(f"{output / PATCH}: {len(built.files)} files, {added} lines added")
    for name in built.beside:
        print(f"{output / name}: to be put in by hand, as it says")
    patch.apply(output / PATCH, original)
    patch.refuse_differences(original, changed, list(built.files))
    print("applied to a fresh copy")
    if not with_checks:
        return 0
    pages = [*built.files.values(), *built.beside.values()]
    blocks = [block for page in pages for block in examples(page) if "MemVir" in block]
    results = []
    for result in check(original, list(built.files), blocks):
        print(result, flush=True)
        if not result.passed:
            print(result.output)
        results.append(result)
    return 0 if all(result.passed for result in results) else 1


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m upstream",
        description="Make a patch that adds MemVir to PML, apply it and check it.",
    )
    parser.add_argument(
        "--source",
        type=Path,
        help=f"PML's source: an archive, or a folder that has {SOURCE} "
        f"(default: the source distribution of {VERSION}, which pip gets)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/upstream"),
        help="folder for the patch (default: %(default)s)",
    )
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="only make the patch and apply it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
