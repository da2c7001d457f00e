"""Text from files, made harmless: one function a format that it is written in."""

from __future__ import annotations

import re
import unicodedata

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "_%&#${}"},
}
# A spreadsheet takes what begins so for a formula.
FORMULA = ("=", "+", "-", "@")


def plain(text: object) -> str:
    """One line without control characters; lone surrogates cannot be written."""
    return "".join(
        " " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in str(text)
    )


def markdown(text: object) -> str:
    """As Markdown shows it unchanged, in a table's cell, too.

    Underscores within words are no emphasis, brackets without a target no link.
    """
    escaped = re.sub(r"([\\`*~$<>|]|\](?=[(\[:]))", r"\\\1", plain(text))
    escaped = re.sub(r"&(?=#|\w+;)", "&amp;", escaped)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", escaped)


def latex(text: object) -> str:
    return re.sub(r"[\\~^_%&#${}]", lambda match: LATEX[match[0]], plain(text))


def csv(value: object) -> object:
    """A cell; numbers are as they are."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def mathtext(text: object) -> str:
    """For figures, where a pair of $ begins mathematics."""
    return plain(text).replace("$", r"\$")
