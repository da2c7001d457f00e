"""`python -m benchmarks gpu`: parts are run or named, and a page says how it went."""

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.config.loading import load

SAYS, FAILS = ("-c", "print('said')"), ("-c", "raise SystemExit(3)")
SLEEPS = ("-c", "import time; time.sleep(60)")


@pytest.mark.parametrize(
    "there, parts, code, result",
    [
        (False, [("one", FAILS, SAYS, 1)], 0, "passed"),
        (False, [("one", SAYS, None, 1)], 0, "left out: it wants a GPU"),
        (False, [("one", SAYS, FAILS, 1), ("two", SAYS, SAYS, 1)], 1, "failed (3)"),
        (True, [("one", SAYS, None, 1)], 0, "passed"),
        (True, [("one", SLEEPS, None, 0.01)], 1, "not done in 0.01 minutes"),
    ],
)
def test_the_page(tmp_path, monkeypatch, there, parts, code, result):
    made = [gpu.Part(name, "about it", *rest) for name, *rest in parts]
    monkeypatch.setattr(gpu, "parts", lambda folder: made)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU of ours")
    done = CliRunner().invoke(main, ["gpu", "--output", str(tmp_path)])
    assert done.exit_code == code, done.output
    page = (tmp_path / "index.md").read_text()
    assert f"| {result}" in page and page.count("about it") == len(parts)
    assert ("a GPU of ours" if there else "no GPU") in page
    if result == "passed":
        assert "said" in (tmp_path / "one.log").read_text()


def test_without_a_gpu_what_is_left_out_is_the_share_alone(tmp_path):
    left = [part.name for part in gpu.parts(tmp_path) if part.on_cpu is None]
    assert left == ["share"]
    assert sum(part.minutes for part in gpu.parts(tmp_path)) <= 30


@pytest.mark.parametrize("where", ["on_gpu", "on_cpu"])
def test_what_is_trained_is_a_preset(tmp_path, where):
    (run,) = (part for part in gpu.parts(tmp_path) if part.name == "run")
    overrides = [one for one in getattr(run, where) if "=" in one and one[0] != "-"]
    for name in gpu.COMPARED:
        assert load(name, overrides=overrides).seeds == [0]
