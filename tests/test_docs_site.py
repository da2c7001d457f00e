"""The documentation site builds strictly, is whole, and says what is so."""

import contextlib
import importlib.util
import inspect
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy
import pytest

from pml_memvir import MemVir

from .test_readme import ROOT

DOCS = ROOT / "docs"
PAGES = ["algorithm", "configuration", "faq", "index", "migration"]
PYTHON = re.compile(
    r"^```python\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def need_extra():
    for name in ("mkdocs", "material", "mkdocstrings", "ziamath"):
        pytest.importorskip(name, reason="the extra `docs` builds the site")


def build(project, folder):
    need_extra()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    return subprocess.run(
        [*command, str(folder)], cwd=project, capture_output=True, text=True
    )


def table(text, first):
    """The rows of the table whose header begins with `| first |`, by its columns."""
    lines = text[text.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    header, _, *rows = ([c.strip() for c in x[1:-1].split("|")] for x in lines)
    return [dict(zip(header, row)) for row in rows]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def hooks():
    need_extra()
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_there_and_nothing_else(site):
    pages = {p.relative_to(DOCS).with_suffix(".html") for p in DOCS.rglob("*.md")}
    assert all((site / page).is_file() for page in pages)
    assert not list(site.rglob("*.py"))


def test_public_names_of_memvir_are_on_a_page(site):
    from mkdocstrings import Inventory

    with open(site / "objects.inv", "rb") as file:
        listed = set(Inventory.parse_sphinx(file))
    ours = [c for c in MemVir.__mro__ if c.__module__.startswith("pml_memvir")]
    others = [c for c in MemVir.__mro__ if c not in ours]
    missing = {
        f"{cls.__module__}.{cls.__name__}.{name}"
        for cls in ours
        for name, value in vars(cls).items()
        if isinstance(value, (property, staticmethod, classmethod))
        or inspect.isfunction(value)
        if not name.startswith("_")
        if value.__doc__ or not any(hasattr(other, name) for other in others)
    } - listed
    assert not missing


class Loaded(HTMLParser):
    """What a browser fetches for a page by itself: everything but where links lead."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "srcset", "data", "poster", "style") or (
                name == "href" and tag not in ("a", "area")
            ):
                self.addresses.append(value or "")


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        parser = Loaded()
        parser.feed(page.read_text())
        assert any(address.endswith(".css") for address in parser.addresses)
        assert not [a for a in parser.addresses if "//" in a], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text())


def test_faults_fail_the_build_and_are_named(tmp_path):
    """Links, anchors, and public names that are missing or without a docstring."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("docs", "pml_memvir"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    docs = tmp_path / "docs"
    with open(docs / "index.md", "a") as page:
        page.write("\n[a](gone.md) [b](faq.md#gone) [c](../gone)\n")
    losses = (docs / "api" / "losses.md").read_text()
    assert "::: pml_memvir.losses.ProxyNCA" in losses
    (docs / "api" / "losses.md").write_text(losses.replace("losses.ProxyNCA", "MemVir"))
    module = tmp_path / "pml_memvir" / "pml" / "warmup.py"
    docstring = re.compile(r'(-> int:\n)    """.*?"""\n', re.DOTALL)
    code, found = docstring.subn(r"\1", module.read_text(), count=1)
    assert found
    module.write_text(code)
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    for fault in [
        "'gone.md'",
        "'faq.md#gone'",
        "links to ../gone, which is not there",
        "pml_memvir.losses.ProxyNCA is on no page of the reference",
        "pml_memvir.epochs_to_steps has no docstring",
    ]:
        assert fault in built.stderr


def test_links_out_of_docs(hooks):
    page = "[the README](../README.md#use), [`tests`](../tests), [here](faq.md#x)"
    plain = hooks.outside_links(page, DOCS / "a.md", DOCS, None)
    assert plain == "the README (`README.md`), `tests`, [here](faq.md#x)"
    linked = hooks.outside_links(page, DOCS / "a.md", DOCS, "https://host/us/it/")
    assert "(https://host/us/it/blob/main/README.md#use)" in linked
    assert "(https://host/us/it/tree/main/tests)" in linked
    inside = "[MemVir](../api/memvir.md)"
    assert hooks.outside_links(inside, DOCS / "api" / "a.md", DOCS, None) == inside


def test_tables_keep_together_what_belongs_together(hooks):
    page = "N = 5, M = 20\n\n| N = 5, M = 20 | +0.1 [-1.0, +1.2] | 4, 5 | x = 1 |\n"
    kept = "| N\xa0=\xa05, M\xa0=\xa020 | +0.1 [-1.0,\xa0+1.2] | 4, 5 | x = 1 |"
    assert hooks.unbroken(page) == f"N = 5, M = 20\n\n{kept}\n"


def test_lists_of_pages_are_lists(site):
    """Python-Markdown ends them where what follows an item is not 4 spaces in."""
    for page in site.rglob("*.html"):
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text(), re.DOTALL):
            assert not re.search(r"^ *(\d+\.|[-*]) ", paragraph, re.MULTILINE), page


def test_figures_of_results_open_at_their_full_size(site):
    page = (site / "results.html").read_text()
    figures = re.findall(r'<img[^>]* src="([^"]+\.png)"', page)
    assert figures
    for figure in figures:
        assert f'<a href="{figure}"><img' in page and (site / figure).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_code_of_pages_runs_and_prints_what_they_say(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    text = (DOCS / f"{page}.md").read_text()
    assert text.count("```python") == len(PYTHON.findall(text))
    for code, output in PYTHON.findall(text):
        said = re.findall(r"^print\(.*\)  # (.+)$", code, flags=re.MULTILINE)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page}.md", "exec"), names)
        assert printed.getvalue().splitlines() == (output.splitlines() or said)


def test_every_argument_is_configured_with_its_default():
    rows = table((DOCS / "configuration.md").read_text(), "argument")
    *parameters, kwargs = inspect.signature(MemVir).parameters.values()
    assert [row["argument"] for row in rows] == [f"`{p.name}`" for p in parameters]
    for row, p in zip(rows, parameters):
        default = "" if p.default is p.empty else f"`{p.default!r}`".replace("'", '"')
        assert row["default"] == default, p.name


def test_configs_are_as_the_page_says(tmp_path):
    pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")
    from benchmarks.config import load, preset_names

    text = (DOCS / "configuration.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "arm.yaml").write_text(block)
    arm = load(str(tmp_path / "arm.yaml")).loss_funcs["metric_loss"]["MemVir"]
    assert arm["step_gap"] == 499 and arm["memory_dtype"] == "float16"

    said = {}
    for row in table(text, "presets"):
        names, *numbers = row.values()
        data_sets, _, losses = names.partition(":")
        for data_set in re.findall(r"`(\w+)`", data_sets):
            for loss in re.findall(r"`(\w+)`", losses) or [""]:
                said[data_set, loss] = [None if n == "-" else int(n) for n in numbers]
    presets = [name for name in preset_names() if name.endswith("_memvir")]
    assert len(presets) == 54
    thinned = {"snapshot_every": 1, "class_weights_every": None}
    for name in presets:
        data_set, loss = name.removesuffix("_memvir").split("/")
        arm = thinned | load(name).loss_funcs["metric_loss"]["MemVir"]
        found = [
            arm[key] for key in ("num_steps", "step_gap", *thinned, "warmup_epochs")
        ]
        assert found == said.get((data_set, loss), said[data_set, ""]), name


def test_times_are_those_of_the_page_on_cost():
    ours = table((DOCS / "algorithm.md").read_text(), "N | M")
    theirs = table((DOCS / "cost.md").read_text(), "N | M")
    assert ours == [{name: row[name] for name in ours[0]} for row in theirs]


def test_figures_are_as_they_are_drawn(tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="it draws the figures")
    script = DOCS / "figures" / "draw.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    there = {path.name: path.read_text() for path in script.parent.glob("*.svg")}
    assert drawn.keys() == there.keys() and len(there) == 4
    if numpy.__version__.startswith("1."):
        pytest.skip("the figures' digits are those of NumPy 2")
    if f"Matplotlib v{matplotlib.__version__}," in there["blocks-light.svg"]:
        assert drawn == there  # versions differ in digits
