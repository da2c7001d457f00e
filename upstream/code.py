"""A Python file that is edited by the places of its syntax tree; the rest stays."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator

from .errors import KitError


class Code:
    """Source text, its syntax tree, and edits that are made all at once by `text`.

    Args:
        text: Python source.
        name: of the file, for messages.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.tree = ast.parse(text, name)
        self._bytes = text.encode()  # the tree's columns count bytes
        lines = self._bytes.splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self._edits: list[tuple[int, int, bytes]] = []

    def text(self) -> str:
        """The source with all edits made."""
        result = self._bytes
        after = len(result)
        for start, end, new in sorted(self._edits, reverse=True):
            if end > after:
                raise KitError(f"{self.name}: two edits meet at byte {end}")
            result = result[:start] + new + result[end:]
            after = start
        return result.decode()

    def replace(self, node: ast.AST, new: str) -> None:
        self._edits.append((*self._span(node), new.encode()))

    def insert_before(self, node: ast.stmt, new: str) -> None:
        """Whole lines before those of a statement."""
        start = self._starts[_first_line(node) - 1]
        self._edits.append((start, start, new.encode()))

    def remove_statement(self, node: ast.stmt) -> None:
        """Its lines, decorators included."""
        assert node.end_lineno is not None
        start, end = self._starts[_first_line(node) - 1], self._starts[node.end_lineno]
        self._edits.append((start, end, b""))

    def remove_between(self, before: ast.AST, node: ast.AST) -> None:
        """What is behind one node up to the end of another."""
        self._edits.append((self._span(before)[1], self._span(node)[1], b""))

    def remove_returns(self, function: ast.FunctionDef) -> None:
        """What a function says it returns, with the arrow before it."""
        assert function.returns is not None
        start, end = self._span(function.returns)
        self._edits.append((self._bytes.rindex(b"->", 0, start), end, b""))

    def remove_item(self, key: ast.AST, value: ast.AST) -> None:
        """An item of a dict, with the comma behind it."""
        end = self._span(value)[1]
        rest = self._bytes[end:]
        if rest.lstrip().startswith(b","):
            end += rest.index(b",") + 1
        self._edits.append((self._span(key)[0], end, b""))

    def remove_type_comments(self) -> None:
        """`# type: ignore[...]`, which only says something to mypy."""
        text = self._bytes.decode()
        lines = text.split("\n")
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and token.string.startswith("# type:"):
                line, column = token.start
                before = lines[line - 1][:column]
                start = self._starts[line - 1] + len(before.rstrip().encode())
                end = self._starts[line - 1] + len(before.encode())
                self._edits.append((start, end + len(token.string.encode()), b""))

    def source_of(self, node: ast.AST) -> str:
        """Its text; of a statement, all of its lines."""
        if isinstance(node, ast.stmt):
            assert node.end_lineno is not None
            start = self._starts[_first_line(node) - 1]
            return self._bytes[start : self._starts[node.end_lineno]].decode()
        start, end = self._span(node)
        return self._bytes[start:end].decode()

    def _span(self, node: ast.AST) -> tuple[int, int]:
        lines = (node.lineno, node.end_lineno)  # type: ignore[attr-defined]
        columns = (node.col_offset, node.end_col_offset)  # type: ignore[attr-defined]
        start, end = (self._starts[li - 1] + co for li, co in zip(lines, columns))
        return start, end


def names_in(node: ast.AST) -> set[str]:
    """Names that are read or set anywhere in it, attributes' names included."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
    return found


def imports_in(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


def bound_name(alias: ast.alias) -> str:
    """The name that `import a.b` or `from a import b as c` gives."""
    return alias.asname or alias.name.partition(".")[0]


def written(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])
