"""The documentation for PML, made of MemVir's own docstring and signature."""

from __future__ import annotations

import ast
import json
import re
import string

from .errors import KitError


def section(
    template: str, module: str, losses: list[str], least: dict[str, str]
) -> str:
    """The section on MemVir of PML's `docs/losses.md`.

    Args:
        template: with places for what follows.
        module: the text of memvir.py, worded as in PML.
        losses: supported ones.
        least: the lowest versions, of "torch" and "python".
    """
    memvir = _class(module, "MemVir")
    links = (f"    - [{name}](losses.md#{name.lower()})" for name in losses)
    return string.Template(template).substitute(
        signature=_signature(memvir),
        parameters=_parameters(ast.get_docstring(memvir) or ""),
        losses="\n".join(links),
        **least,
    )


def examples(page: str) -> list[str]:
    """The Python blocks of a page that import what they need."""
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    return [block for block in blocks if re.search(r"^(from|import) ", block, re.M)]


def _class(module: str, name: str) -> ast.ClassDef:
    for node in ast.parse(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise KitError(f"the module of {name} does not define it")


def _signature(cls: ast.ClassDef) -> str:
    """`losses.MemVir(loss, ...)`, one argument a line behind the first."""
    (init,) = (
        node
        for node in cls.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    given = init.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    positional, by_name = (
        [
            arg.arg if default is None else f"{arg.arg}={_literal(default)}"
            for arg, default in pairs
        ]
        for pairs in (
            zip(given.args[1:], defaults[1:]),
            zip(given.kwonlyargs, given.kw_defaults),
        )
    )
    start = f"losses.{cls.name}("
    separator = ",\n" + " " * len(start)
    return start + separator.join([*positional, "*", *by_name, "**kwargs"]) + ")"


def _literal(node: ast.expr) -> str:
    value = ast.literal_eval(node)
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _parameters(docstring: str) -> str:
    """The docstring's arguments as PML's documentation lists them."""
    match = re.search(r"^Args:\n(.*?)\n\n", docstring, flags=re.M | re.S)
    if match is None:
        raise KitError("MemVir's docstring has no section Args")
    items = re.findall(
        r"^ {4}(\S+): (.*?)(?=^ {4}\S|\Z)", match[1] + "\n", flags=re.M | re.S
    )
    return "\n".join(
        f"* **{name.strip('*')}**: {_sentence(text)}" for name, text in items
    )


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    is_word = text[1:2].isalpha() or text.startswith("a ")  # not k or the like
    return text[0].upper() + text[1:] if is_word else text
