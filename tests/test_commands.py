"""The command line, as a user types it."""

import json
import shutil

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402
import yaml  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import gpu  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config.loading import load  # noqa: E402

from . import tiny  # noqa: E402

SAYS, FAILS = ("-c", "print('said')"), ("-c", "raise SystemExit(3)")
SLEEPS = ("-c", "import time; time.sleep(60)")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch, tmp_path, one_thread):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    values = {**tiny.VALUES, "num_epochs_train": 2}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def call(*arguments, fails=False):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return " ".join(result.output.split())


def test_run_report_eval(config, tmp_path):
    plain = [
        "experiment_name=tiny/norm_softmax",
        "loss_funcs.metric_loss~OVERRIDE~={NormSoftmax: {scale: 10}}",
        "seeds=[0,1]",
    ]
    call("run", config, *plain, "--device", "cpu")
    memvir = ["baseline=tiny/norm_softmax", "seeds=[0,1]"]
    output = call("run", config, *memvir, "--device", "cpu")
    assert "warm-up 6 steps" in output and "epoch 2/2" in output
    assert "finished before" in call("run", config, *memvir, "--device", "cpu")
    runs = tmp_path / "output" / "runs"
    output = call("report", runs)
    assert "Data set: tiny" in output
    assert "minus norm_softmax (n = 2)" in output
    for name in ("report.md", "report.csv", "summary.csv", "report.tex", "curves.png"):
        assert (runs / "report" / name).stat().st_size > 100
    chosen = ["--selection", "last", "--metric", "Recall@1", "--until", "1"]
    other = ["--baseline", "tiny/norm_softmax=tiny/norm_softmax_memvir"]
    output = call("report", runs, *chosen, *other, "--output", tmp_path / "some")
    assert "selection: last" in output and "best_on_test" not in output
    assert "epochs: 1;" in output and "Recall@1 diff." in output
    assert "MAP@R" not in output and "minus norm_softmax_memvir (n = 2)" in output
    output = call("eval", runs / "tiny" / "norm_softmax_memvir", "--device", "cpu")
    found = json.loads(
        (runs / "tiny/norm_softmax_memvir/seed1/history.json").read_text()
    )
    recall = found["epochs"][-1]["splits"]["test"]["precision_at_1"]
    assert f"{100 * recall:.2f}" in output and "seed1" in output
    # Another data set, by overrides.
    noisy = "dataset.Tiny.noise=0"
    output = call("eval", runs / "tiny" / "norm_softmax", noisy, "--device", "cpu")
    assert "100.00" in output


def test_a_folder_of_images_is_evaluated(config, tmp_path):
    """Without a training part; what was measured is kept."""
    call("run", config, "num_epochs_train=1", "--device", "cpu")
    run = tmp_path / "output/runs/tiny/norm_softmax_memvir"
    images = tmp_path / "images"
    for name, grey in (("dark", 10), ("light", 240)):
        (images / name).mkdir(parents=True)
        for number in range(3):
            picture = Image.new("RGB", (tiny.SIZE, tiny.SIZE), (grey + number,) * 3)
            picture.save(images / name / f"{number}.png")
    output = call("eval", run, "--images", images, "--device", "cpu")
    assert "100.00" in output
    kept = json.loads((run / "evaluations.jsonl").read_text())
    assert kept["images"] == str(images)
    assert kept["found"][0]["precision_at_1"] == 1 and kept["found"][0]["epoch"] == 1
    shutil.move(images, tmp_path / "root/test")
    output = call("eval", run, "--images", tmp_path / "root", fails=True)
    assert "has test, and no folders of classes" in output and "root/test" in output


def test_mistakes_are_messages(config):
    assert "Did you mean 'patience'" in call("run", config, "patince=3", fails=True)
    assert "name a preset" in call("run", fails=True)
    assert "--device" in call("run", config, "--device", "gpu", fails=True)
    assert "no preset" in call("run", "glyphs/nothing*", fails=True)
    assert "No such option" in call("run", "-vv", config, fails=True)
    for command in "speed", "share":
        said = call(command, "--device", "gpu", fails=True)
        assert "expected cpu or cuda" in said
    assert "holds no run" in call("eval", ".", fails=True)
    assert "unknown kind 'los'" in call("list", "los", fails=True)
    assert "one experiment_name" in call(
        "run", "glyphs/softmax", "glyphs/arcface", "experiment_name=x", fails=True
    )
    assert "cars196" in call("data", "prepare", "cars", fails=True)


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
def test_a_run_goes_on_from_its_best_checkpoint(config):
    call("run", config, "patience=1", "--device", "cpu")
    said = call("run", config, "patience=2", "--device", "cpu", fails=True)
    assert "patience: 1 -> 2" in said
    call("run", config, "patience=2", "--from-best", "--device", "cpu")


def test_tune(config, tmp_path):
    pytest.importorskip("optuna", reason="tune uses Optuna")
    lr = "optimizers.metric_loss_optimizer.Adam.lr"
    search = [f"{lr}~LOG_BAYESIAN~=[2e-2,1e-1]", "--with", "validation"]  # it is 1e-2
    call("tune", config, *search, "--trials", "2", "--device", "cpu")
    (best,) = tmp_path.rglob("best.yaml")
    assert len([*best.parent.glob("trial-*")]) == 2
    config = load(config, [str(best)])
    assert 2e-2 <= config.optimizers["metric_loss_optimizer"]["Adam"]["lr"] <= 1e-1


def test_all_configs_are_rehearsed_before_the_first_is_run(config, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(
        "on_top_of: [tiny]\nexperiment_name: other\ntester~APPLY~4: {k: 28}"
    )
    said = call("run", config, other, "--device", "cpu", fails=True)
    assert "k is 28" in said and not (tmp_path / "output").exists()


def test_no_run_is_within_another(config, tmp_path):
    inner = tmp_path / "inner.yaml"
    inner.write_text("on_top_of: [tiny]\nexperiment_name: tiny/norm_softmax_memvir/x")
    said = call("run", config, inner, "num_epochs_train=1", fails=True)
    assert "would be one within the other" in said


def test_a_damaged_history_is_named(config, tmp_path):
    call("run", config, "num_epochs_train=1", "--device", "cpu")
    run = tmp_path / "output/runs/tiny/norm_softmax_memvir"
    (run / "seed0/history.json").write_text("{")
    for command in ("eval", run), ("run", config, "num_epochs_train=1"):
        said = call(*command, "--device", "cpu", fails=True)
        assert "history.json is damaged" in said


def test_list_and_check(config):
    output = call("list")
    assert "sop/proxy_anchor" in output and "official" in output
    assert "MemVir" in call("list", "loss") and "resnet50" in call("list", "trunk")
    assert "1 of 1 configs are ready" in call("check", config)
    output = call("check", config, "tester~APPLY~2={batch_sise: 3}", fails=True)
    assert "Did you mean 'batch_size'" in output
    output = call("check", config, "tester~APPLY~2={batch_size: x}", fails=True)
    assert "batch_size must be a number" in output and "0 of 1" in output


def test_verify_says_what_is_wrong(tmp_path):
    output = call("data", "verify", "cars196", "--root", tmp_path / "no", fails=True)
    assert "no is not a folder" in output


def test_names_by_pattern():
    from benchmarks.commands.options import split_names

    names, overrides = split_names(("glyphs/*_memvir", "x.yaml", "a.b=1"))
    assert len(names) == 7 and names[-1] == "x.yaml" and overrides == ["a.b=1"]


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
def test_the_page_of_what_a_gpu_is_for(
    tmp_path, monkeypatch, there, parts, code, result
):
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
