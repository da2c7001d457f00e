"""The examples, cut short. A run that is resumed is as good as a whole one."""

import math
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from benchmarks.datasets import Glyphs

from .forks import Fork, all_printed, forked
from .test_resume import equal

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "notebooks" / "MemVir.ipynb"
CLASSES, STEPS_AN_EPOCH = 40, 10  # of 656 images, in batches of 64
SHORT = ["--classes", str(CLASSES), "--step-gap", "2"]


def run_script(path, options):
    """What a forked process does."""
    sys.argv = [path, *options]
    sys.path.insert(0, str(EXAMPLES))  # as Python does for `python examples/NAME.py`
    runpy.run_path(path, run_name="__main__")


class Runs:
    """Each of these runs a script, once or more, and returns what was printed."""

    def __init__(self, data, folder, pool):
        self.data, self.folder, self.pool = ["--data", str(data)], folder, pool
        self.started = {}

    def start(self, name):
        if name not in self.started:
            self.started[name] = self.pool.submit(getattr(self, name))

    def printed(self, name):
        self.start(name)
        return self.started[name].result()

    def command(self, name, *options, python=()):
        """By the command of the README."""
        command = [sys.executable, *python, EXAMPLES / f"{name}.py"]
        done = subprocess.run(
            [*map(str, [*command, *self.data, *SHORT, *options])],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def fork(self, name, *options, num_ranks=1):
        """In a forked process for each rank."""
        options = [*self.data, *SHORT, *map(str, options)]
        script = str(EXAMPLES / f"{name}.py")
        call = self.folder, run_script, script, options
        return all_printed(forked(num_ranks, *call) if num_ranks > 1 else [Fork(*call)])

    def plain_pytorch(self):
        return self.command("plain_pytorch")

    def own_loss(self):
        return self.fork("own_loss")

    def start_in_mid_training(self):
        return self.fork("start_in_mid_training", "--folder", self.folder / "mid")

    def many_classes(self):
        return self.fork("many_classes", "--num-classes", 3000, "--steps", 20)

    def pml_trainer(self):
        return self.whole_and_resumed("pml_trainer")

    def lightning_module(self):
        return self.whole_and_resumed("lightning_module")

    def accelerate_loop(self):
        return self.whole_and_resumed("accelerate_loop")

    def whole_and_resumed(self, name):
        """Four epochs; two of the same; and again four, which go on from these."""
        folder = self.folder / name
        return [
            self.fork(name, "--folder", folder / "whole"),
            self.fork(name, "--folder", folder / "resumed", "--epochs", 2),
            self.fork(name, "--folder", folder / "resumed"),
        ]

    def distributed(self):
        """The same on two ranks, with three epochs and two."""
        folder = self.folder / "distributed"
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        torchrun += ["--nproc_per_node=2"]
        whole = ["--epochs", 3, "--folder", folder / "whole"]
        resumed = ["--folder", folder / "resumed", "--epochs"]
        return [
            self.command("distributed", *whole, python=torchrun),
            self.fork("distributed", *resumed, 2, num_ranks=2),
            self.fork("distributed", *resumed, 3, num_ranks=2),
        ]

    def the_notebook_runs(self):
        """With other parameters; its outputs are in it."""
        import nbclient
        import nbformat

        short = nbformat.read(NOTEBOOK, as_version=4)
        tags = [cell.metadata.get("tags", []) for cell in short.cells]
        (at,) = (k for k, names in enumerate(tags) if "parameters" in names)
        text = f"DATA, NUM_CLASSES, SEEDS = {self.data[1]!r}, {CLASSES}, [0]\n"
        text += "NUM_EPOCHS, STEP_GAP, WARMUP_EPOCHS = 3, 2, 1"
        short.cells.insert(at + 1, nbformat.v4.new_code_cell(text))
        resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
        return nbclient.NotebookClient(
            short, timeout=300, kernel_name="python3", resources=resources
        ).execute()


@pytest.fixture(scope="module")
def runs(request, glyphs_root, tmp_path_factory):
    """Those of the tests that are to run, started in advance, two at a time."""
    Glyphs(glyphs_root)  # drawn before anyone needs it
    with ThreadPoolExecutor(2) as pool:
        runs = Runs(glyphs_root, tmp_path_factory.mktemp("examples"), pool)
        for item in request.session.items:
            name = item.name.removeprefix("test_")
            if item.module is request.module and hasattr(runs, name):
                runs.start(name)
        yield runs


LINE = re.compile(r"^epoch (\d+).*: mean loss (\S+), (\d+) virtual classes", re.M)
TEST = re.compile(r"^test: Recall@1 (\S+), MAP@R (\S+)$", re.M)


def epochs(printed):
    """(epoch, mean loss, virtual classes) of each line."""
    return [(int(e), float(x), int(v)) for e, x, v in LINE.findall(printed)]


def check_progress(printed, num_epochs=4):
    """It learns, the memory fills, and it is tested at the end."""
    lines = epochs(printed)
    assert [epoch for epoch, _, _ in lines] == [*range(1, num_epochs + 1)]
    # One epoch of warm-up; then it fills within one.
    assert [virtual for _, _, virtual in lines[:1] + lines[-1:]] == [0, 2 * CLASSES]
    (_, first, _), (_, last, _) = lines[0], lines[-1]
    # Three times as many classes cost a network that learns nothing ln 3 more.
    assert math.isfinite(last) and last - math.log(3) < first - 0.5
    check_test(printed)


def check_test(printed):
    """It has learnt to retrieve: MAP@R of an untrained network is 9 to 13.5 here."""
    ((recall, map_at_r),) = TEST.findall(printed)
    assert 14 < float(map_at_r) < float(recall) < 100


def load(path):
    return torch.load(path, weights_only=True)


def test_plain_pytorch(runs):
    printed = runs.printed("plain_pytorch")
    assert printed.startswith("656 images of 40 letters to train on")
    check_progress(printed)
    (cosine,) = re.findall(r"oldest snapshot: cosine (\S+)", printed)
    assert 0.5 < float(cosine) < 1  # an optimizer has the class weights


def test_own_loss(runs):
    printed = runs.printed("own_loss")
    assert "algorithm: concatenation" in printed
    check_progress(printed)
    scales = re.findall(r"scale (\S+)$", printed, re.M)
    assert len(set(scales)) > 1  # it is learnt


def test_start_in_mid_training(runs):
    printed = runs.printed("start_in_mid_training")
    plain = [float(x) for x in re.findall(r"plain: mean loss (\S+)", printed)]
    (_, third, virtual), (_, _, at_end) = epochs(printed)
    assert len(plain) == 2 and virtual == at_end == 2 * CLASSES
    # A network that began anew would be above the first epoch's loss again.
    assert third < plain[1] + math.log(3) < plain[0] + 0.5
    plain = load(runs.folder / "mid" / "plain.pth")["loss"]
    assert not any("memory" in key for key in plain)
    check_test(printed)


def test_many_classes(runs):
    printed = runs.printed("many_classes")
    wide, before = map(int, re.findall(r"memory will take (\d+) bytes", printed))
    (after,) = map(int, re.findall(r"memory takes (\d+) bytes", printed))
    assert before == after and 6 < before / (3000 * 128 * 2) < 7 < wide
    steps = re.findall(r"^step (\d+): loss (\S+), (\d+) virtual", printed, re.M)
    assert [(int(step), int(virtual)) for step, _, virtual in steps] == [
        (step, min(5, (step - 1) // 3) * 3000) for step in range(1, 21)
    ]
    assert math.isfinite(float(steps[-1][1])) and TEST.search(printed)


def test_pml_trainer(runs):
    whole, first, second = runs.printed("pml_trainer")
    assert "begin with epoch 1, step 0" in first
    assert f"begin with epoch 3, step {2 * STEPS_AN_EPOCH}" in second
    history = re.findall(r"^epoch \d: test: Recall@1 .*$", whole, re.M)
    assert [line[6] for line in history] == list("1234")
    assert 14 < float(history[-1].split()[-1]) < 100
    for line in (*history, f"{2 * CLASSES} virtual classes after 40 steps"):
        assert line in whole and line in second
    folders = [runs.folder / "pml_trainer" / x / "models" for x in ("whole", "resumed")]
    names = {path.name for path in folders[0].iterdir()}
    assert {"trunk_4.pth", "metric_loss_4.pth", "rng_4.pth"} <= names
    for name in names:
        if not name.startswith("rng"):  # Python's and NumPy's are of the process
            assert equal(*(load(folder / name) for folder in folders)), name


def test_lightning_module(runs):
    pytest.importorskip("lightning", reason="of the extra examples")
    whole, first, second = runs.printed("lightning_module")
    check_progress(whole)
    assert epochs(first) + epochs(second) == epochs(whole)
    assert TEST.findall(second) == TEST.findall(whole)
    folder = runs.folder / "lightning_module"
    states = [load(folder / x / "latest.ckpt") for x in ("whole", "resumed")]
    for key in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert equal(*(state[key] for state in states)), key
    state = states[0]["state_dict"]
    calls = int(state["loss_func.memory.calls"])
    assert calls == 4 * STEPS_AN_EPOCH == states[0]["global_step"]
    assert state["loss_func.memory.embeddings"].any()


def test_accelerate_loop(runs):
    pytest.importorskip("accelerate", reason="of the extra examples")
    whole, first, second = runs.printed("accelerate_loop")
    assert f"begin with epoch 3, step {2 * STEPS_AN_EPOCH}" in second
    check_progress(whole)
    assert epochs(first) + epochs(second) == epochs(whole)
    assert TEST.findall(second) == TEST.findall(whole)
    folders = [
        runs.folder / "accelerate_loop" / x / "epoch_4" for x in ("whole", "resumed")
    ]
    # The network, MemVir with its memory, and the optimizer.
    from safetensors.torch import load_file

    for name in ("model.safetensors", "model_1.safetensors"):
        assert equal(*(load_file(folder / name) for folder in folders)), name
    assert equal(*(load(folder / "optimizer.bin") for folder in folders))
    memvir = load_file(folders[1] / "model_1.safetensors")
    assert memvir["memory.embeddings"].any()


def ranks_of(folder):
    """What each rank has saved; nothing but the last epoch is left."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["epoch3_rank0.pth", "epoch3_rank1.pth"]
    return [load(folder / name) for name in names]


def memory_of(rank):
    """The memory's part of a rank's checkpoint."""
    return {
        key.partition("memory.")[2]: value
        for key, value in rank["loss"].items()
        if "memory." in key
    }


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="PyTorch without torch.distributed"
)
def test_distributed(runs):
    printed, first, second = runs.printed("distributed")
    check_progress(printed, num_epochs=3)
    ranks = ranks_of(runs.folder / "distributed" / "whole")
    for part in ("network", "loss"):  # all weights; batch norm's statistics are not
        weights = [
            {k: v for k, v in rank[part].items() if k.endswith((".weight", ".W"))}
            for rank in ranks
        ]
        assert weights[0] and equal(*weights)
    memories = [memory_of(rank)["embeddings"] for rank in ranks]
    assert memories[0].shape == memories[1].shape
    assert not torch.equal(*memories)  # each of its own batches

    # Each rank goes on from its own file, to the last bit.
    assert epochs(first) + epochs(second) == epochs(printed)
    assert [epoch for epoch, _, _ in epochs(second)] == [3]
    for whole, resumed in zip(ranks, ranks_of(runs.folder / "distributed" / "resumed")):
        for part in ("network", "loss", "optimizer"):
            assert equal(whole[part], resumed[part]), part
        assert memory_of(resumed)["calls"] == 3 * STEPS_AN_EPOCH


# ---------------------------------------------------------------- the notebook


@pytest.fixture(scope="module")
def notebook():
    nbformat = pytest.importorskip("nbformat", reason="of the extra examples")
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook, kind):
    """All outputs of a MIME type, or what was printed."""
    return [
        result.text if kind == "text" else result.data[kind]
        for cell in notebook.cells
        for result in cell.get("outputs", [])
        if (kind == "text" and result.output_type == "stream")
        or kind in result.get("data", {})
    ]


def check_verdict(markdown):
    """What the words say is what the table says."""
    rows = re.findall(r"^\| Norm-softmax.*\|", markdown, re.M)
    plain, memvir = (float(row.split("|")[-2].split("±")[0]) for row in rows)
    word, points = re.search(r"MemVir (wins|loses) by (\S+) on", markdown).groups()
    assert (word == "wins") == (memvir > plain)
    assert abs(memvir - plain) == pytest.approx(float(points), abs=0.011)
    by_seed = re.search(r"By seed: (.*)\.$", markdown)[1].split(", ")
    mean = sum(map(float, by_seed)) / len(by_seed)
    assert mean == pytest.approx(memvir - plain, abs=0.02)
    return len(by_seed)


def test_the_notebook_runs(runs):
    pytest.importorskip("nbclient", reason="of the extra examples")
    pytest.importorskip("ipykernel", reason="of the extra examples")
    short = runs.printed("the_notebook_runs")
    printed = "".join(outputs(short, "text"))
    assert f"{5 * CLASSES} virtual classes in the last step" in printed
    plain, memvir = re.findall(r"mean loss by epoch \[(.*)\]", printed)
    assert plain.split()[0] == memvir.split()[0]  # in warm-up they are the same
    assert plain.split()[1] != memvir.split()[1]
    assert check_verdict("".join(outputs(short, "text/markdown"))) == 1
    assert len(outputs(short, "image/png")) == 2


def test_the_notebook_keeps_what_it_printed(notebook):
    """Run from top to bottom as it is, but for the installation."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in cells]
    assert counts == [None, *range(1, len(cells))]
    assert "skip-execution" in cells[0].metadata.tags
    assert check_verdict("".join(outputs(notebook, "text/markdown"))) == 3
    samples, tsne = outputs(notebook, "image/png")
    assert len(tsne) > 10_000  # base64
    text = NOTEBOOK.read_text()
    assert "Traceback" not in text and str(Path.home()) not in text


def test_the_readme_names_all_examples():
    page = (EXAMPLES / "README.md").read_text()
    named = set(re.findall(r"^\| \[(\S+)\]\((\S+)\)", page, re.M))
    files = [*EXAMPLES.glob("*.py"), NOTEBOOK]
    assert {name for name, _ in named} == {
        path.name for path in files if path.name != "glyphs.py"
    }
    for name, link in named:
        assert (EXAMPLES / link).exists() and Path(link).name == name
