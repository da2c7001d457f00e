"""The configs and commands of docs/benchmarks.md are there and mean something."""

import re
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import differences, load, load_values  # noqa: E402
from benchmarks.config.layers import OVERLAYS  # noqa: E402
from benchmarks.config.search import ranges  # noqa: E402

PAGE = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text()


def test_own_configs_of_the_page(tmp_path):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    blocks = re.findall(r"```yaml\n# (mine/\S+)\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "mine").mkdir()
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    memvir, plain = (
        load(str(tmp_path / "mine" / f"proxy_anchor{ending}.yaml"))
        for ending in ("_memvir", "")
    )
    assert memvir.baseline == plain.experiment_name == "mine/proxy_anchor"
    changed = {line.partition(":")[0] for line in differences(plain, memvir)}
    assert {key.partition(".")[0] for key in changed} == {
        "experiment_name",
        "baseline",
        "loss_funcs",
    }
    config = memvir
    assert config.dataset == {"ImageFolders": {"root": "pictures", "halves": True}}
    assert list(config.models["trunk"]) == ["resnet18"]
    assert config.trainer["MetricLossOnly"]["batch_size"] == 32
    assert list(config.transforms["eval"]) == ["Resize", "CenterCrop"]


def test_tune_command_of_the_page():
    command = re.search(r"python -m benchmarks tune (.*?)```", PAGE, flags=re.DOTALL)[1]
    quoted = [w for w in re.findall(r"'([^']+)'", command)]
    name = command.split()[0]
    found = ranges(load_values(name, ["validation"], quoted))
    assert {r.path.rsplit(".", 1)[1] for r in found} == {"num_steps", "lr"}


def test_commands_and_overlays_of_the_page_exist():
    used = set(re.findall(r"python -m benchmarks (\w+)", PAGE))
    in_table = set(re.findall(r"^\| `(\w+)", PAGE, flags=re.MULTILINE))
    assert used | in_table <= set(main.commands)
    assert {"run", "report", "eval", "tune", "list", "check", "data"} <= in_table
    for path in OVERLAYS.glob("*.yaml"):
        assert f"`{path.stem}`" in PAGE
