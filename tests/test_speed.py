"""The speed benchmark runs and writes what it says; no time is asserted."""

import io
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from benchmarks import precision
from benchmarks.__main__ import main
from benchmarks.speed import run
from benchmarks.speed.arms import Setting, make_loss, oracle_inner
from benchmarks.speed.operations import FILE, Operations
from benchmarks.speed.share import measure_share, table
from pml_memvir import MemVir
from tests.reference import NaiveMemVir, relative_error

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "speed"
COUNT = ["speed", "--operations", "--output"]


@pytest.mark.parametrize("name", run.TWELVE)
def test_both_sides_compute_the_same(name):
    """The oracle is timed on the very loss that the fast way computes."""
    setting = Setting(name, 2, 1, 6, 5, 8)
    torch.manual_seed(0)
    loss = make_loss(setting, setting.C).double()
    inner, rows = oracle_inner(setting, loss)
    memvir = MemVir(loss, setting.N, setting.M)
    assert memvir.algorithm_used != "concatenation"
    naive = NaiveMemVir(inner, setting.C, setting.N, setting.M)
    for _ in range(8):
        x = torch.nn.functional.normalize(torch.randn(6, 8).double())
        y = torch.randint(5, (6,))
        assert relative_error(memvir(x, y).detach(), naive(x, y, rows).loss) < 1e-9


def test_command(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "QUICK", run.QUICK[:1])
    arguments = ["speed", "--quick", "--repeats", "2", "--output", str(tmp_path)]
    outcome = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    result = json.loads((tmp_path / "speed.json").read_text())
    assert result["machine"]["torch"] == torch.__version__
    for row in result["rows"]:
        assert len(row["seconds"]["oracle"]) == 2
        medians = row["median"]
        assert row["oracle / fast"] == medians["oracle"] / medians["fast"]
        assert row["fast / floor"] == medians["fast"] / medians["floor"]
    assert (tmp_path / "speed.md").read_text().count("\n| NormSoftmax") == 1
    with Image.open(tmp_path / "growth.png") as image:
        assert min(image.size) > 300


def test_share_of_a_whole_step():
    setting = Setting("NormSoftmax", 2, 1, 4, 5, 8)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 6 * 6, 8))
    share = measure_share(setting, network, 6, 2, "cpu", torch.bfloat16)
    assert share.added < share.of_whole == share.memvir / share.whole
    assert share.memory_nbytes > 2 * 2 * (5 + 4) * 8 * 2
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table([share], "here"))
    assert f"{share.of_whole:.1%}" in console.export_text()


def test_floor_operations():
    setting = Setting("NormSoftmax", 45, 10, 128, 98, 512)
    assert setting.floor_operations == 2 * 128 * 98 * 512 * 183
    assert Setting("SoftTripleLoss", 1, 0, 2, 3, 4).floor_operations == 2 * 72 * 7


def test_precision_is_measured():
    setting = Setting("SoftTripleLoss", 2, 0, 6, 5, 8)
    single, half = (
        precision.measure(setting, dtype, 8) for dtype in (torch.float32, torch.float16)
    )
    for name in ("loss", "embedding_grad", "weight_grad"):
        assert 0 < getattr(single, name) < getattr(half, name) < 0.1


def test_the_file_of_operations_is_up_to_date(tmp_path):
    written = (RESULTS / FILE).read_text("utf-8")
    version = torch.__version__.partition("+")[0]
    if f",{version}\n" not in written:
        pytest.skip("another PyTorch has other operations")
    outcome = CliRunner().invoke(main, [*COUNT, str(tmp_path)], catch_exceptions=False)
    assert outcome.exit_code == 0 and "NormSoftmax" in outcome.output
    advice = f"python -m benchmarks {' '.join(COUNT)} benchmarks/results/speed"
    assert (tmp_path / FILE).read_text("utf-8") == written, f"run {advice}"


def test_what_is_counted_as_an_operation():
    with Operations("cpu") as seen:
        x = torch.empty(2, 3)
        x.t().unsqueeze(0).detach()
        assert seen.count == 0
        (x.zero_() + 1).view(6).sum()
    assert seen.count == 3
    with Operations("cuda") as seen:
        x + 1
    assert seen.count == 0
