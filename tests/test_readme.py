"""The README's Python blocks run, one after another, as a reader would run them."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_code_blocks_run_in_order(monkeypatch, tmp_path, forget_registrations):
    assert len(BLOCKS) >= 4
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
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
