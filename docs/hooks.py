"""What the site needs besides MkDocs: see each function. Not a page."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

import griffe
import ziamath
from mkdocs.plugins import get_plugin_logger
from mkdocstrings import Inventory

log = get_plugin_logger("pml-memvir")  # in strict mode its warnings are errors

PUBLIC = ("pml_memvir", "pml_memvir.losses", "pml_memvir.hook_container")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
IMAGE = re.compile(r"(?<!\[)!\[[^\]]*\]\(([^)\s]+\.png)\)")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
TOGETHER = re.compile(r"(?<=\b[NM]) = (?=\d)|(?<=\d), (?=[+-][\d.]+\])")


def on_config(config: Any) -> Any:
    """Blocks fenced as `math`, which hold LaTeX, become SVG: no script draws them."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append(
        {"name": "math", "class": "math", "format": math_fence}
    )
    return config


def math_fence(source: str, *_: Any, **__: Any) -> str:
    """A formula on lines of its own, in the colour of the text."""
    ziamath.config.svg2 = False  # paths, not symbols with ids that repeat on a page
    latex = source.strip()
    drawn = ziamath.Latex(latex, size=17, color="currentColor").svg()
    return (
        f'<div class="math" role="img" aria-label="{html.escape(latex)}">{drawn}</div>'
    )


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Links that leave docs/ work on a code host; here they need the repository's URL.

    Without one they are text that names the path. Either way it must exist.
    Figures open at their full size; what belongs together in a table stays together.
    """
    docs = Path(config.docs_dir)
    source = docs / page.file.src_uri
    markdown = outside_links(markdown, source, docs, config.repo_url)
    return unbroken(IMAGE.sub(r"[\g<0>](\1)", markdown))


def unbroken(markdown: str) -> str:
    """Tables with spaces that are not broken at, in intervals and in N = 5."""
    return ROW.sub(
        lambda row: TOGETHER.sub(lambda m: m[0].replace(" ", "\u00a0"), row[0]),
        markdown,
    )


def outside_links(markdown: str, source: Path, docs: Path, repo_url: str | None) -> str:
    """The page `source` of the folder `docs` with its links out of it rewritten."""
    root = docs.parent

    def rewritten(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        target = Path(os.path.normpath(source.parent / link))
        if target.is_relative_to(docs):
            return match[0]
        if not target.is_relative_to(root) or not target.exists():
            log.warning(
                f"{source.relative_to(docs)} links to {link}, which is not there"
            )
        path = Path(os.path.relpath(target, root)).as_posix()
        if repo_url:
            kind = "tree" if target.is_dir() else "blob"
            return f"[{text}]({repo_url.rstrip('/')}/{kind}/main/{path}{anchor})"
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK.sub(rewritten, markdown)


def on_post_build(config: Any) -> None:
    """Every public name has a docstring and stands in the reference."""
    root = Path(config.config_file_path).parent
    with open(Path(config.site_dir) / "objects.inv", "rb") as file:
        listed = set(Inventory.parse_sphinx(file))
    package = griffe.load("pml_memvir", search_paths=[root])
    for problem in undocumented(package, listed):
        log.warning(problem)


def undocumented(package: Any, listed: set[str]) -> list[str]:
    """What is wrong with the public names of `PUBLIC`, `listed` being those shown."""
    problems = []
    for module in PUBLIC:
        _, _, inside = module.partition(".")
        for name, thing in (package[inside] if inside else package).members.items():
            path = f"{module}.{name}"
            if not thing.is_public or thing.is_module or path in PUBLIC:
                continue
            if not (thing.is_class or thing.is_function):
                continue
            if not thing.has_docstring:
                problems.append(f"{path} has no docstring")
            if path not in listed:
                problems.append(f"{path} is on no page of the reference")
    return problems
