"""What the patch adds to PML's files and changes in them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import docs, host
from . import modules as m
from .code import Code, bound_name
from .errors import KitError
from .imports import PML, homes_of_losses
from .slices import part_of

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "pml_memvir"
ORACLE = ROOT / "tests" / "reference.py"
TEMPLATES = Path(__file__).parent / "templates"

TEST = "tests/losses/test_memvir.py"
SOURCE = f"src/{PML}"


@dataclass
class Build:
    """New texts of files.

    Attributes:
        files: by path in PML's source, those of the patch.
        beside: by name, texts for files that the given source lacks.
    """

    files: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)


def build(source: Path) -> Build:
    """Everything for this copy of PML's source, which is left as it is.

    Raises:
        KitError: the source, or pml_memvir, is not as the kit expects it.
    """
    result = Build()
    losses_init = _read(source, f"{SOURCE}/losses/__init__.py")
    homes = homes_of_losses(losses_init)
    init = _template("memvir_init.py")
    least = lowest_versions(init)
    package = f"{SOURCE}/losses/memvir"
    result.files[f"{package}/__init__.py"] = init
    for name, text in m.modules(PLUGIN, homes, least).items():
        result.files[f"{package}/{name}"] = text
    result.files[f"{SOURCE}/losses/__init__.py"] = host.losses_init(losses_init)
    path = f"{SOURCE}/utils/distributed.py"
    refusal = m.refusal(PLUGIN)
    result.files[path] = host.distributed(_read(source, path), refusal)
    result.files[TEST] = test_file(_template("test_memvir.py"))
    _add_documentation(result, source, result.files[f"{package}/memvir.py"], least)
    return result


def lowest_versions(init: str) -> dict[str, str]:
    """Of "torch" and "python", as MemVir's `__init__.py` checks them."""
    found = {}
    for node in ast.parse(init).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.startswith("MINIMUM_"):
                version = ast.literal_eval(node.value)
                found[name[len("MINIMUM_") :].lower()] = ".".join(map(str, version))
    return found


def test_file(template: str) -> str:
    """PML's test of MemVir: what it imports of our naive MemVir is put into it."""
    code = Code(template, "templates/test_memvir.py")
    statements = [n for n in code.tree.body if isinstance(n, ast.ImportFrom)]
    for node in statements:
        if node.module == "tests.reference":
            names = {bound_name(alias) for alias in node.names}
            imports, oracle = part_of(ORACLE.read_text("utf-8"), ORACLE.name, names)
            code.replace(node, "\n".join(imports))
            after = code.tree.body[code.tree.body.index(statements[-1]) + 1]
            code.insert_before(after, f"\n\n{m.in_own_words(oracle)}\n\n")
            return code.text()
    raise KitError(f"{code.name} does not import the naive MemVir of {ORACLE.name}")


def _add_documentation(
    result: Build, source: Path, module: str, least: dict[str, str]
) -> None:
    """`module` is PML's memvir.py: the section is made of its docstring."""
    template = _template("losses.md")
    losses = m.supported_losses(PLUGIN)
    section = m.in_own_words(docs.section(template, module, losses, least))
    paper = re.search(r"\[([^]]+)\]\((\S+?)\)", section)
    assert paper is not None
    page, table = "docs/losses.md", "CONTENTS.md"
    if (source / page).is_file():
        result.files[page] = host.losses_page(_read(source, page), section)
    else:
        place = f"The section on MemVir of {page}, behind MarginLoss."
        result.beside["losses.part.md"] = f"<!-- {place} -->\n\n{section}"
    if (source / table).is_file():
        text = _read(source, table)
        row = host.contents_row(text, paper[1], paper[2])
        result.files[table] = host.contents(text, row)
    else:
        readme = source / "README.md"
        text = _read(source, readme.name) if readme.is_file() else ""
        place = f"A row of {table}, among the wrappers, behind GenericPairLoss."
        row = host.contents_row(text, paper[1], paper[2])
        result.beside["CONTENTS.part.md"] = f"<!-- {place} -->\n\n{row}\n"


def _read(source: Path, path: str) -> str:
    """A file's text, with its own ends of lines."""
    file = source / path
    if not file.is_file():
        raise KitError(f"PML's source has no {path}")
    with open(file, encoding="utf-8", newline="") as stream:
        return stream.read()


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")
