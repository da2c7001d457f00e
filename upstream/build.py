"""What the patch adds to PML's files and changes in them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import KitError, host

ROOT = Path(__file__).parent.parent
TEMPLATES = Path(__file__).parent / "templates"

PML = "pytorch_metric_learning"
SOURCE = f"src/{PML}"
PACKAGE = f"{SOURCE}/losses/memvir"
TEST = "tests/losses/test_memvir.py"

# Modules of pml_memvir that need no other of it, and their names in PML.
MODULES = {
    "basic.py": "memvir.py",
    "inner.py": "inner.py",
    "specs.py": "specs.py",
    "virtual_classes.py": "virtual_classes.py",
}
INIT = "from .memvir import MemVir\nfrom .specs import register_loss\n"


@dataclass
class Build:
    """New texts of files.

    Attributes:
        files: by path in PML's source, those of the patch.
        beside: by name, texts for files that the given source lacks.
    """

    files: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)


def build(source: Path, room: Path = ROOT / "pml_memvir" / "pml") -> Build:
    """Everything for this copy of PML's source, which is left as it is.

    Raises:
        KitError: the source, or a module, is not as the kit expects it.
    """
    path = f"{SOURCE}/losses/__init__.py"
    files = {path: host.losses_init(_read(source, path))}
    files[f"{PACKAGE}/__init__.py"] = INIT
    for name, new in MODULES.items():
        files[f"{PACKAGE}/{new}"] = within_pml((room / name).read_text("utf-8"), name)
    files[TEST] = (TEMPLATES / "test_memvir.py").read_text("utf-8")
    result = Build(files)
    _add_documentation(result, source)
    return result


def within_pml(text: str, name: str) -> str:
    """A module whose imports of PML are relative, as seen from `losses/memvir`.

    Raises:
        KitError: it imports what is neither PML's nor in the patch.
    """
    siblings = {Path(module).stem for module in MODULES}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wanted = {alias.name.partition(".")[0] for alias in node.names}
            is_there = not wanted & {PML, "pml_memvir"}
        elif isinstance(node, ast.ImportFrom) and node.level:
            wanted = {node.module or alias.name for alias in node.names}
            is_there = node.level == 1 and wanted <= siblings
        elif isinstance(node, ast.ImportFrom):
            is_there = re.match(
                rf"{PML}\.(distances|utils|losses\.)|(?!{PML}|pml_memvir)",
                node.module or "",
            )
        else:
            continue
        if not is_there:
            raise KitError(f"{name} may not have `{ast.unparse(node)}`")
    text = re.sub(rf"^from {PML}\.losses\.", "from ..", text, flags=re.M)
    return re.sub(rf"^from {PML}\.", "from ...", text, flags=re.M)


def _add_documentation(result: Build, source: Path) -> None:
    section = (TEMPLATES / "losses.md").read_text("utf-8")
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


def examples(page: str) -> list[str]:
    """The Python blocks of a page that import what they need."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    return [block for block in blocks if re.search(r"^(from|import) ", block, re.M)]
