"""The Python blocks of the README and of its guide run, as a reader would run them."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "use.md").read_text()


def run(text):
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "page", "exec"), names)
    return len(blocks), names


def test_the_readme_is_short_and_its_code_runs():
    assert len(README.splitlines()) <= 150
    count, names = run(README)
    assert count == 1 and names["loss_func"].step == 3


def test_the_guide_runs_in_order(monkeypatch, tmp_path, forget_registrations):
    monkeypatch.chdir(tmp_path)
    count, names = run(GUIDE)
    assert count >= 4
    assert names["metric_loss"].num_virtual_classes == 16  # as the text says
    assert torch.equal(names["plain"].proxies, names["loss_func"].proxies)


def test_the_table_of_losses_is_complete():
    from pml_memvir import MemVir

    table = README[README.index("## Supported losses") :]
    rows = re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)
    assert sorted(rows) == MemVir.supported_losses()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_commands_exist(target):
    assert f"make {target}" in README
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_the_tests_that_hold_promises_exist():
    page = (ROOT / "docs" / "reliability.md").read_text()
    named = re.findall(r"`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?", page)
    file = ""
    checked = 0
    for file_, test in named:
        file = file_ or file
        if test:
            text = (ROOT / "tests" / file).read_text()
            assert f"def {test}(" in text, (file, test)
            checked += 1
    assert checked > 25


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), (page, link)
