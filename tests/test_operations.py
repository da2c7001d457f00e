"""What a training step asks of a GPU is as benchmarks/results/speed says."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.speed.operations import FILE, Operations

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "speed"
COMMAND = ["speed", "--operations", "--output"]


def test_the_file_is_up_to_date(tmp_path):
    written = (RESULTS / FILE).read_text("utf-8")
    version = torch.__version__.partition("+")[0]
    if f",{version}\n" not in written:
        pytest.skip("another PyTorch has other operations")
    outcome = CliRunner().invoke(
        main, [*COMMAND, str(tmp_path)], catch_exceptions=False
    )
    assert outcome.exit_code == 0 and "NormSoftmax" in outcome.output
    advice = f"python -m benchmarks {' '.join(COMMAND)} benchmarks/results/speed"
    assert (tmp_path / FILE).read_text("utf-8") == written, f"run {advice}"


def test_what_is_counted():
    with Operations("cpu") as seen:
        x = torch.empty(2, 3)
        x.t().unsqueeze(0).detach()
        assert seen.count == 0
        (x.zero_() + 1).view(6).sum()
    assert seen.count == 3
    with Operations("cuda") as seen:
        x + 1
    assert seen.count == 0
