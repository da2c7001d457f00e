"""PML's absolute imports, as pml_memvir has them, to relative ones within PML."""

from __future__ import annotations

import ast

from .code import Code, bound_name, imports_in, names_in, written
from .errors import KitError

PML = "pytorch_metric_learning"


def homes_of_losses(losses_init: str) -> dict[str, str]:
    """The module of each loss, by the text of PML's `losses/__init__.py`."""
    return {
        alias.name: f"{PML}.losses.{node.module}"
        for node in ast.parse(losses_init).body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
    }


def make_relative(code: Code, package: str, homes: dict[str, str]) -> None:
    """Rewrite all imports of PML.

    While `losses/__init__.py` is being executed, `losses` does not have all of its
    names yet. So each loss is imported from its own module, `pml_losses.ArcFaceLoss`
    becoming `ArcFaceLoss`.

    Args:
        code: a module.
        package: where it will be, such as "pytorch_metric_learning.losses.memvir".
        homes: the module of each loss.

    Raises:
        KitError: an import is of a kind that is not known here.
    """
    for node in imports_in(code.tree):
        if isinstance(node, ast.Import):
            if any(alias.name.partition(".")[0] == PML for alias in node.names):
                raise KitError(f"{code.name}: write `from {PML} import ...` instead")
        elif node.level == 0 and (node.module or "").partition(".")[0] == PML:
            lines = [_line(code, node, alias, package, homes) for alias in node.names]
            indent = "\n" + " " * node.col_offset
            code.replace(node, indent.join(sum(lines, [])))


def _line(
    code: Code,
    node: ast.ImportFrom,
    alias: ast.alias,
    package: str,
    homes: dict[str, str],
) -> list[str]:
    """What is written in place of one name of an import."""
    assert node.module is not None
    if (node.module, alias.name) == (PML, "losses"):
        names = _attributes_to_names(code, bound_name(alias))
        return [f"from {_home(code, n, package, homes)} import {n}" for n in names]
    if node.module == f"{PML}.losses":
        home = _home(code, alias.name, package, homes)
    else:
        home = relative(node.module, package)
    return [f"from {home} import {written(alias)}"]


def _home(code: Code, name: str, package: str, homes: dict[str, str]) -> str:
    if name not in homes:
        raise KitError(f"{code.name} needs {name}, which PML's losses do not have")
    return relative(homes[name], package)


def _attributes_to_names(code: Code, module: str) -> list[str]:
    """Write `X` for each `module.X`; the names, sorted."""
    attributes = [
        node
        for node in ast.walk(code.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    ]
    plain = [n for n in ast.walk(code.tree) if isinstance(n, ast.Name)]
    if sum(name.id == module for name in plain) != len(attributes):
        raise KitError(f"{code.name}: `{module}` is used other than as `{module}.X`")
    names = sorted({node.attr for node in attributes})
    if taken := set(names) & {name.id for name in plain}:
        raise KitError(f"{code.name}: {sorted(taken)} are names of its own")
    for node in attributes:
        code.replace(node, node.attr)
    return names


def relative(module: str, package: str) -> str:
    """`module` as it is written in a `from` of a module of `package`."""
    target, here = module.split("."), package.split(".")
    common = 0
    while target[common : common + 1] == here[common : common + 1] != []:
        common += 1
    return "." * (len(here) - common + 1) + ".".join(target[common:])


def remove_unused(code: Code) -> None:
    """Remove imported names at the top of a module that it does not use."""
    used = set()
    for statement in code.tree.body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            used |= names_in(statement)
    for node in code.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                continue
            keep = [alias for alias in node.names if bound_name(alias) in used]
            write_names(code, node, keep)


def write_names(
    code: Code, node: ast.Import | ast.ImportFrom, keep: list[ast.alias]
) -> None:
    """Let an import have these names only; without any it is removed."""
    if not keep:
        code.remove_statement(node)
    elif len(keep) < len(node.names):
        names = ", ".join(written(alias) for alias in keep)
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = f"from {module} import {names}"
        else:
            names = f"import {names}"
        code.replace(node, names)
