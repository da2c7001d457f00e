"""The modules of pml_memvir as modules of PML."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .code import Code, bound_name, names_in
from .errors import KitError
from .imports import PML, make_relative, remove_unused, write_names

PACKAGE = f"{PML}.losses.memvir"

# What stays behind in pml_memvir. In place of its __init__.py, PML gets
# templates/memvir_init.py; README.md says why the others.
LEFT_OUT = (
    "__init__.py",
    "checkpoints.py",
    "hook_container.py",
    "losses",
    "snapshots.py",
    "pml/hook_container.py",
    "pml/left_out.py",
    "pml/refusals.py",
)

# Definitions that stay behind, by module, with what mentions them at its top level:
# calls, items of tables, imports.
DROPPED = {
    "memvir.py": ("refusals",),
    "pml/kernels.py": ("_is_plain_product", "norm_softmax", "proxy_nca", "softmax"),
    "pml/specs.py": ("own_losses",),
}

# By module, words that have no sense in PML, and what stands there instead.
CHANGED = {
    "memvir.py": {
        "see `epochs_to_steps`.": "see `losses.memvir.pml.warmup.epochs_to_steps`.",
        "is asked for second derivatives.\n": (
            "is asked for second derivatives.\n"
            "        ImportError: torch is older than {torch}, or Python than {python}."
            " (The rest of\n            the library can be used.)\n"
        ),
    },
    "readings.py": {" In docs/tuning.md is how to\n    understand them.": ""},
    "pml/__init__.py": {"pytorch-metric-learning (PML), version 2.9": "losses"},
    "pml/specs.py": {"pml_memvir.register_loss": f"{PACKAGE}.register_loss"},
}


def is_left_out(place: str) -> bool:
    """Whether a module stays behind, by its path in pml_memvir."""
    return place.startswith(LEFT_OUT)


def modules(root: Path, homes: dict[str, str], least: dict[str, str]) -> dict[str, str]:
    """All modules that go to PML, converted, by their path in the package.

    Args:
        root: the folder pml_memvir.
        homes: the module of each of PML's losses.
        least: the lowest versions, of "torch" and "python".

    Raises:
        KitError: pml_memvir is not as this file says.
    """
    converted = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not is_left_out(name):
            converted[name] = convert(path.read_text("utf-8"), name, homes, least)
    if missing := (DROPPED.keys() | CHANGED.keys()) - converted.keys():
        raise KitError(f"pml_memvir lacks {', '.join(sorted(missing))}: {_ADVICE}")
    return converted


def convert(text: str, name: str, homes: dict[str, str], least: dict[str, str]) -> str:
    """One module; `name` is its path in the package."""
    code = Code(text, f"pml_memvir/{name}")
    code.remove_type_comments()
    dropped = set(DROPPED.get(name, ()))
    _drop(code, dropped)
    text = code.text()
    if dropped:
        code = Code(text, code.name)
        if left := dropped & names_in(code.tree):
            raise KitError(f"{code.name} still needs {sorted(left)}: {_ADVICE}")
        remove_unused(code)
        text = code.text()
    folders = name.split("/")[:-1]
    code = Code(text, code.name)
    make_relative(code, ".".join([PACKAGE, *folders]), homes)
    text = code.text()
    for old, new in CHANGED.get(name, {}).items():
        if old not in text:
            raise KitError(f"{code.name} does not say {old!r} any more: {_ADVICE}")
        text = text.replace(old, new.format(**least))
    text = in_own_words(text)
    if "pml_memvir" in text:
        raise KitError(f"{code.name} speaks of pml_memvir: {_ADVICE}")
    return text


def in_own_words(text: str) -> str:
    """Comments and messages that speak of PML, as PML itself would say it."""

    def this_library(match: re.Match[str]) -> str:
        begins = text[: match.start()].rstrip().endswith((".", '"""'))
        return "This library's" if begins else "this library's"

    text = re.sub(r"\bPML's\b", this_library, text)
    text = re.sub(r"\ba PML (\w+)", r"a \1 of this library", text)
    return re.sub(r"\bPML\b", "this library", text)


def refusal(root: Path) -> str:
    """What DistributedLossWrapper is to say of MemVir: an `if` that raises.

    It is the one by which pml_memvir wraps `DistributedLossWrapper.__init__`.
    """
    name = "pml/refusals.py"
    code = Code((root / name).read_text("utf-8"), f"pml_memvir/{name}")
    for function in code.tree.body:
        if isinstance(function, ast.FunctionDef):
            (parameter,) = function.args.args
            for node in ast.walk(function):
                if isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise):
                    text = code.source_of(node)
                    return text.replace(f", {parameter.arg})", ", MemVir)", 1)
    raise KitError(f"{code.name} does not refuse DistributedLossWrapper: {_ADVICE}")


def supported_losses(root: Path) -> list[str]:
    """Names of PML's losses in the table of `pml/specs.py`, sorted."""
    tree = ast.parse((root / "pml" / "specs.py").read_text("utf-8"))
    return sorted(
        key.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Attribute)
        and isinstance(key.value, ast.Name)
        and key.value.id == "pml_losses"
    )


def _drop(code: Code, names: set[str]) -> None:
    """Remove definitions of these names, and what mentions them."""
    found = set()
    for node in code.tree.body:
        mentioned = names & names_in(node)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            if node.name in names:
                found.add(node.name)
                code.remove_statement(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            keep = [alias for alias in node.names if bound_name(alias) not in names]
            write_names(code, node, keep)
        elif isinstance(node, ast.Expr) and mentioned:
            found |= mentioned
            code.remove_statement(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(
            node.value, ast.Dict
        ):
            for key, value in zip(node.value.keys, node.value.values):
                if key is not None and names & (names_in(key) | names_in(value)):
                    found |= names & (names_in(key) | names_in(value))
                    code.remove_item(key, value)
    if found != names:
        raise KitError(f"{code.name} lacks {sorted(names - found)}: {_ADVICE}")


_ADVICE = "bring upstream/modules.py up to date"
