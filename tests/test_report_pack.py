"""Runs packed into one file, and unpacked again."""

import gzip
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.protocol.history import History
from benchmarks.report import ReportError
from benchmarks.report.packing import pack, unpack
from benchmarks.report.runs import read

from .report_folders import MAP, R1, experiment, history, of_values, write


@pytest.fixture
def runs(tmp_path):
    """A run as it is written, one with folds, and one with nothing measured."""
    root = tmp_path / "runs"
    folder = experiment(root, "glyphs/softmax", [])
    (folder / "seed1").mkdir()
    done = History(1, None, 2, MAP, "val", "test", finished=True)
    metrics = {MAP: 1 / 3, R1: 1}
    done.epochs = [
        {"epoch": n, "step": n, "loss": loss, "splits": {"test": metrics}, "memvir": m}
        for n, loss, m in ((0, None, {}), (1, 0.1, {"a": 2}), (2, float("nan"), {}))
    ]
    done.save(folder / "seed1")
    folds = [history(0, {1: (0.5, 0.25, 0.5)}, fold=f) for f in (0, 1)]
    for one in folds:
        one["epochs"][0]["memvir"] = {}
    folder = experiment(root, "sop/softmax", folds)
    write(folder / "seed0/concatenated.json", {"format": 1, "last": {R1: 0.9}})
    (experiment(root, "sop/cosface", []) / "seed0").mkdir()
    return root


def content(root):
    return {
        path.relative_to(root): path.read_text()
        for path in root.rglob("*.*")
        if path.is_file()
    }


def test_a_run_is_unpacked_as_it_was(runs, tmp_path):
    """To the byte, what the run wrote; and a report of the file is that of folders."""
    file = tmp_path / "x" / "runs.csv.gz"
    assert sorted(pack([runs], file)) == [
        "glyphs/softmax",
        "sop/cosface",
        "sop/softmax",
    ]
    list(unpack(file, tmp_path / "again"))
    one, other = content(runs), content(tmp_path / "again")
    assert one.keys() == other.keys()
    for path in one:
        if path.suffix == ".json" and "sop" in str(path):  # made by hand: other indents
            assert json.loads(one[path]) == json.loads(other[path])
        else:
            assert one[path] == other[path], path
    (only,) = unpack(file, tmp_path / "one", ["sop/s*"])
    assert only == tmp_path / "one/sop/softmax"
    assert len(list((tmp_path / "one").glob("*/*"))) == 1
    read_again, folders = read([file]), read([runs])
    pd.testing.assert_frame_equal(read_again.values, folders.values)
    pd.testing.assert_frame_equal(read_again.concatenated, folders.concatenated)


def test_the_file_is_a_table(runs, tmp_path):
    file = tmp_path / "runs.csv.gz"
    pack([runs], file)
    table = pd.read_csv(file)
    of = table[(table.experiment == "glyphs/softmax") & (table.metric == MAP)]
    assert list(of.value.astype(float)) == [1 / 3] * 3 and list(of.epoch) == [0, 1, 2]
    before = file.read_bytes()
    pack([runs], file)
    assert file.read_bytes() == before


def test_packing_again_adds_and_loses_nothing(tmp_path):
    file = tmp_path / "runs.csv.gz"
    experiment(tmp_path / "a", "sop/softmax", of_values(0.5, 0.6))
    two = history(0, {1: (0.5, 0.1), 2: (0.6, 0.2)})
    experiment(tmp_path / "b", "sop/cosface", [two])
    pack([tmp_path / "a"], file)
    pack([tmp_path / "b"], file)
    assert set(read([file]).experiments.index) == {"sop/softmax", "sop/cosface"}
    experiment(tmp_path / "c", "sop/softmax", of_values(0.5))
    before = file.read_bytes()
    with pytest.raises(ReportError, match=r"has trials of sop/softmax .*\(1, None\)"):
        pack([tmp_path / "c"], file)
    assert file.read_bytes() == before and not list(tmp_path.glob("*.tmp"))
    begun = history(0, {1: (0.5, 0.1)}, num_epochs=2)
    experiment(tmp_path / "d", "sop/cosface", [begun])
    with pytest.raises(ReportError, match=r"not as far: \[\(0, None\)\]"):
        pack([tmp_path / "d"], file)
    with pytest.raises(ReportError, match="are one experiment"):
        pack([tmp_path / "a", tmp_path / "c"], tmp_path / "new.csv.gz")


def damaged(file, text):
    file.write_bytes(gzip.compress(text.encode()))
    return file


HEAD = "experiment,seed,fold,epoch,step,split,metric,value\n"


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n",
        f"{HEAD}x,0,,1,1,test,m,0.5\n",  # of no trial
        f"{HEAD}x,zero,,,,trial,test,1\n",
        f"{HEAD}x,1,2\n",
        f'{HEAD}x,0,,,,trial,test,"{{"\n',
        f"{HEAD}x,,,,,file,environment.json,1\n",  # no config
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    file = damaged(tmp_path / "runs.csv.gz", text)
    with pytest.raises(ReportError, match="runs.csv.gz"):
        read([file])
    inside = bytearray(gzip.compress(text.encode()))
    inside[10:13] = b"\xff\xff\xff"
    for content in b"no gzip", bytes(inside):
        file.write_bytes(content)
        with pytest.raises(ReportError, match="runs.csv.gz is no file of packed runs"):
            read([file])


def test_an_unpacking_that_fails_leaves_nothing(runs, tmp_path, monkeypatch):
    file, output = tmp_path / "runs.csv.gz", tmp_path / "out"
    pack([runs], file)
    left = [2]

    def write(path, text):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(path))
        path.write_text(text)

    monkeypatch.setattr("benchmarks.report.pack.write_text", write)
    with pytest.raises(OSError, match="No space"):
        list(unpack(file, output))
    assert not [path for path in output.rglob("*") if path.is_file()]
    left[0] = 1000
    assert list(unpack(file, output))


@pytest.mark.parametrize("name", ["../out", "/out", "ok"])
def test_nothing_is_unpacked_elsewhere(tmp_path, name):
    path = "../../out.txt" if name == "ok" else "config.yaml"
    config = f"experiment_name: {name}\n"
    rows = f'{HEAD}x,,,,,file,config.yaml,"{config}"\n'
    rows += f"x,,,,,file,{path},harm\n" if name == "ok" else ""
    file = damaged(tmp_path / "runs.csv.gz", rows)
    with pytest.raises(ReportError, match="is not within|is no file of an experiment"):
        list(unpack(file, tmp_path / "a" / "b"))
    assert not list(tmp_path.rglob("out*"))


def test_the_commands(runs, tmp_path):
    file, out = str(tmp_path / "runs.csv.gz"), str(tmp_path / "out")
    runner = CliRunner()
    result = runner.invoke(main, ["pack", str(runs), "--into", file])
    assert result.exit_code == 0 and "3 experiments" in result.output
    for expected in (0, 1):  # it is there, then
        result = runner.invoke(main, ["unpack", file, "glyphs/*", "--output", out])
        assert result.exit_code == expected
    assert "is there already" in result.output
    report = ["report", file, "--only", "glyphs/*", "--output", str(tmp_path / "r")]
    result = runner.invoke(main, report)
    assert result.exit_code == 0 and "glyphs, selection: last" in result.output
    result = runner.invoke(main, ["pack", str(runs), "--into", str(tmp_path / "a.csv")])
    assert result.exit_code == 1 and "named *.csv.gz" in result.output
