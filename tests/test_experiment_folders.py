"""Which folder is whose: configs, seeds and names of experiments."""

import re
from dataclasses import replace

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import torch  # noqa: E402

from benchmarks.config import ConfigError, load_saved, save  # noqa: E402
from benchmarks.errors import Mistake  # noqa: E402
from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.evaluation import evaluate  # noqa: E402
from benchmarks.protocol.history import History  # noqa: E402

from . import tiny  # noqa: E402
from .experiment_runs import (  # noqa: E402
    CPU,
    FOLDS,
    Killed,
    history,
    run,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_finished_trials_are_left_alone_and_seeds_can_be_added(tmp_path):
    folder = run(tmp_path)
    path = folder / "seed0" / "history.json"
    written = path.stat().st_mtime_ns
    run(tmp_path, {"seeds": [1]})
    assert path.stat().st_mtime_ns == written
    assert history(folder, "seed1")["finished"]
    assert load_saved(folder / "config.yaml").seeds == [0, 1]
    one, other = (history(folder, f"seed{seed}")["epochs"] for seed in (0, 1))
    assert one[-1]["loss"] != other[-1]["loss"]


def test_another_config_is_refused(tmp_path):
    folder = run(tmp_path, {"num_epochs_train": 2})
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="num_epochs_train: 2 -> 1"):
        run(tmp_path, {"num_epochs_train": 1})
    with pytest.raises(ConfigError, match="NormSoftmax.scale: 10.0 -> 5"):
        scale = {"metric_loss": {"MemVir": {"loss": {"NormSoftmax": {"scale": 5}}}}}
        run(tmp_path, {"num_epochs_train": 2, "loss_funcs": scale})
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_another_config_is_refused_while_somebody_trains(tmp_path, monkeypatch):
    """Nothing is measured yet, but what will be is of the first one."""
    refused = []

    def second(*arguments):
        before = (tmp_path / "tiny/norm_softmax_memvir/config.yaml").read_bytes()
        for seeds in ([0], [1]):
            with pytest.raises(ConfigError, match="num_epochs_train: 1 -> 2"):
                run(tmp_path, {"num_epochs_train": 2, "seeds": seeds})
        path = tmp_path / "tiny/norm_softmax_memvir/config.yaml"
        assert path.read_bytes() == before
        refused.append(True)

    monkeypatch.setattr(experiment, "run_trial", second)
    run(tmp_path, {"num_epochs_train": 1})
    assert refused


def test_a_config_that_changed_before_training_began_is_refused(tmp_path, monkeypatch):
    """Another process came between the folder's lock and the trial's."""
    path = tmp_path / "tiny/norm_softmax_memvir/config.yaml"

    def recorded(*arguments):
        other = load_saved(path)
        save(replace(other, num_epochs_train=2), path)

    monkeypatch.setattr(experiment.environment, "record", recorded)
    monkeypatch.setattr(experiment, "run_trial", lambda *_: pytest.fail("trained"))
    with pytest.raises(ConfigError, match="num_epochs_train: 2 -> 1"):
        run(tmp_path, {"num_epochs_train": 1})
    assert load_saved(path).num_epochs_train == 2


@pytest.mark.parametrize("name", ["tiny/arm/inner", "tiny", "x/tune/y", "tune/y"])
def test_names_that_reports_would_not_find(tmp_path, name, monkeypatch):
    monkeypatch.setattr(experiment, "run_trial", lambda *_: None)
    run(tmp_path, {"experiment_name": "tiny/arm"})
    with pytest.raises(ConfigError, match="experiment_name: "):
        run(tmp_path, {"experiment_name": name})
    run(tmp_path, {"experiment_name": "tiny/other"})
    run(tmp_path, {"experiment_name": "tiny/arm"})


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'scale'"):
        scal = {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scal": 1}}}
        run(tmp_path, {"loss_funcs": scal})
    assert not list(tmp_path.iterdir())


def test_a_folder_where_nothing_was_measured_may_change(tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(experiment, "run_trial", killed)  # config is there, no history
        run(tmp_path, {"seeds": [3]})
    (saved,) = tmp_path.rglob("config.yaml")
    before = saved.read_text()
    with pytest.raises(ConfigError, match="k is 28"):  # rehearsed, as a new one is
        run(tmp_path, {"tester~APPLY~4": {"k": 28}})
    assert saved.read_text() == before
    folder = run(tmp_path, {"num_epochs_train": 1})
    saved = load_saved(folder / "config.yaml")
    assert saved.num_epochs_train == 1 and saved.seeds == [0]


def test_a_run_goes_on_to_more_epochs_as_one_that_was_as_long(tmp_path):
    """With other workers and batches of the tester, which is all written down."""
    whole = run(tmp_path / "whole", {"num_epochs_train": 3})
    folder = run(tmp_path / "parts", {"num_epochs_train": 2})
    changes = {"num_epochs_train": 3, "tester~APPLY~2": {"batch_size": 9}}
    run(tmp_path / "parts", changes)
    assert history(folder, "seed0") == history(whole, "seed0")
    assert history(folder, "seed0")["finished"]
    text = (folder / "changes.txt").read_text()
    assert "num_epochs_train: 2 -> 3" in text and "batch_size: 50 -> 9" in text


def test_a_checkpoint_without_its_history_is_told(tmp_path):
    folder = run(tmp_path, {"num_epochs_train": 1})
    (folder / "seed0/history.json").unlink()
    with pytest.raises(ConfigError, match="checkpoint of epoch 1, and no history.json"):
        run(tmp_path, {"num_epochs_train": 2})


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path, monkeypatch, content):
    changes = {"num_epochs_train": 1}
    folder = run(tmp_path, changes)
    path = folder / "seed0/models/embedder_1.pth"
    if content is None:
        torch.save({"foreign": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="embedder_1.pth|seed0/models: ") as error:
        run(tmp_path, {"num_epochs_train": 2})
    assert "\n" not in str(error.value) and "delete" in str(error.value)
    with pytest.raises(Mistake, match="embedder_1.pth") as error:
        evaluate(folder, "last", (), CPU)
    assert "\n" not in str(error.value)


def test_a_run_goes_back_to_its_best_checkpoint(tmp_path, monkeypatch):
    """What comes then is trained as it was, but for what MemVir had remembered."""
    plain = {"loss_funcs": {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scale": 10.0}}}}
    changes = {**plain, "num_epochs_train": 6, "check_untrained_accuracy": True}
    folder = run(tmp_path, changes)
    before = history(folder, "seed0")
    best = History.load(folder / "seed0").best_epoch(before["primary_metric"])
    assert 0 < best < 6
    rewound = []
    trained = experiment.run_trial

    def noted(config, seed, fold, trial, *rest):
        rewound.append([entry["epoch"] for entry in history(trial)["epochs"]][-1])
        trained(config, seed, fold, trial, *rest)

    monkeypatch.setattr(experiment, "run_trial", noted)
    experiment.run(tiny.config(changes), tmp_path, CPU, from_best=True)
    assert rewound == [best] and history(folder, "seed0") == before
    assert f"seed0: back to epoch {best}" in (folder / "changes.txt").read_text()


def test_no_checkpoint_has_a_memory_that_is_not_saved(tmp_path, capsys):
    memory = {"loss_funcs": {"metric_loss": {"MemVir": {"save_memory": False}}}}
    folder = run(tmp_path, memory)
    assert "more with MemVir's memory" not in capsys.readouterr().out
    state = torch.load(folder / "seed0/models/metric_loss_4.pth", weights_only=True)
    assert state["memory.calls"] == 24 and "memory.class_weights" not in state


@pytest.mark.filterwarnings("ignore:MemVir starts with an empty memory")
def test_the_memory_is_in_the_latest_checkpoint_only(tmp_path, capsys, monkeypatch):
    """And a run goes on from its best one without it. Sizes are said before."""

    def third(self, metric, split=None):  # virtual classes have come by then
        return min(3, self.epochs[-1]["epoch"])

    monkeypatch.setattr(History, "best_epoch", third)
    folder = run(tmp_path, {"num_epochs_train": 6})
    said = capsys.readouterr().out
    pattern = r"takes (\S+) MB, its latest as much, and up to (\S+) MB more with MemVir"
    size, memory = re.search(pattern, said).groups()
    assert said.index("checkpoint") < said.index("epoch 1/6")
    before = history(folder, "seed0")
    best = 3
    models = folder / "seed0/models"
    kept = models / f"best_on_test_{before['primary_metric']}"
    sizes = {
        path: sum(tensor.nbytes for tensor in torch.load(path).values())
        for path in (models / "metric_loss_6.pth", kept / f"metric_loss_{best}.pth")
    }
    least, most = sorted(sizes.values())
    assert sizes[models / "metric_loss_6.pth"] == most > least
    for folder_, expected in ((kept, 0.0), (models, float(memory))):
        on_disk = sum(path.stat().st_size for path in folder_.glob("*.pth")) / 1e6
        assert on_disk == pytest.approx(float(size) + expected, abs=0.1)
    experiment.run(tiny.config({"num_epochs_train": 6}), tmp_path, CPU, from_best=True)
    after = history(folder, "seed0")
    assert after["finished"] and after["epochs"][:best] == before["epochs"][:best]


def test_best_checkpoints_that_were_not_kept_are_told(tmp_path):
    changes = {"num_epochs_train": 6, "hook_container~APPLY~2": {"save_models": False}}
    run(tmp_path, changes)
    with pytest.raises(ConfigError, match="no checkpoint of epoch . .*save_models"):
        experiment.run(tiny.config(changes), tmp_path, CPU, from_best=True)


def test_concatenated_accuracies_are_those_of_the_longer_run(tmp_path):
    folder = run(tmp_path, {**FOLDS, "num_epochs_train": 1})
    path = folder / "seed0/concatenated.json"
    before = path.read_text()
    run(tmp_path, {**FOLDS, "num_epochs_train": 3})
    assert path.read_text() != before
