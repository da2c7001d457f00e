"""The part of a module that some of its names need: for the tests' naive MemVir."""

from __future__ import annotations

import ast

from .code import Code, bound_name, names_in, written
from .errors import KitError


def part_of(text: str, name: str, wanted: set[str]) -> tuple[list[str], str]:
    """Imports and definitions that `wanted` need, in their order.

    Without annotations, save those of dataclasses: PML's tests have none, and older
    versions of Python do not understand these.

    Args:
        text: a module.
        name: its name, for messages.
        wanted: names that it defines.

    Raises:
        KitError: it does not define one of them.
    """
    code = Code(text, name)
    _remove_annotations(code)
    code = Code(code.text(), name)
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, str] = {}
    for node in code.tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                definitions.update(dict.fromkeys(names_in(target), node))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imports[bound_name(alias)] = f"import {written(alias)}"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                line = f"from {node.module} import {written(alias)}"
                imports[bound_name(alias)] = line
    if missing := wanted - definitions.keys():
        raise KitError(f"{name} does not define {sorted(missing)}")
    needed, new = set(wanted), set(wanted)
    while new:
        names = set().union(
            *(names_in(definitions[n]) for n in new if n in definitions)
        )
        new = (names & (definitions.keys() | imports.keys())) - needed
        needed |= new
    statements = [
        node
        for node in code.tree.body
        if any(definitions.get(n) is node for n in needed)
    ]
    lines = [line for bound, line in imports.items() if bound in needed]
    return lines, "\n\n".join(code.source_of(node) for node in statements)


def _remove_annotations(code: Code) -> None:
    for node in ast.walk(code.tree):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            for argument in (
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                *filter(None, (arguments.vararg, arguments.kwarg)),
            ):
                if argument.annotation is not None:
                    code.replace(argument, argument.arg)
            if node.returns is not None:
                code.remove_returns(node)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            code.remove_between(node.target, node.annotation)
