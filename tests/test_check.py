"""What check passes, runs; what would fail after hours is told in seconds."""

import warnings
from types import SimpleNamespace

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import psutil  # noqa: E402
import torch  # noqa: E402

from benchmarks.config import ConfigError, registry  # noqa: E402
from benchmarks.protocol import experiment  # noqa: E402
from benchmarks.protocol.check import Checker  # noqa: E402
from pml_memvir import MemVir  # noqa: E402

from . import tiny  # noqa: E402
from .experiment_runs import CPU, history, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SOFTMAX = {"NormSoftmax": {"scale": 10.0}}
MEMVIR = {"MemVir": {"loss": SOFTMAX, "num_steps": 2, "step_gap": 1}}
ADAM = {"Adam": {"lr": 0.01}}
CLASSIFIER = {
    "models": {"classifier": {"Linear": {}}},
    "optimizers": {"classifier_optimizer": ADAM},
}
CROSS_ENTROPY = {"loss_funcs": {"classifier_loss": {"CrossEntropyLoss": {}}}}
WITH_CLASSIFIER = {"trainer~SWAP~1": {"TrainWithClassifier": None}}
CASCADED = {
    "trainer~SWAP~1": {"CascadedEmbeddings": None},
    "trainer~APPLY~2": {"embedding_sizes": [2, 4]},
    "loss_funcs~OVERRIDE~": {
        "metric_loss_0": SOFTMAX,
        "metric_loss_1": MEMVIR,
        "classifier_loss_1": {"CrossEntropyLoss": {}},
    },
    "models": {"classifier_1": {"Linear": {}}},
    "optimizers": {
        "metric_loss_optimizer~DELETE~": None,
        "metric_loss_0_optimizer": ADAM,
        "metric_loss_1_optimizer": ADAM,
        "classifier_1_optimizer": ADAM,
    },
}


def test_finds_what_does_not_fit():
    wrong = {"loss_funcs": {"metric_loss~OVERRIDE~": {"NormSoftmax": {"scal": 1}}}}
    assert "Did you mean 'scale'" in Checker(CPU).check(tiny.config(wrong)).builds
    assert Checker(CPU).check(tiny.config()).ready
    large = {"models": {"trunk~OVERRIDE~": {"bninception": {}}}}
    found = Checker(CPU).check(tiny.config(large))
    assert found.data == "ok" and "evaluation fails" in found.builds  # 12 pixels


class OneOfAClass(tiny.Tiny):
    """No test image has another of its class."""

    def __init__(self, split, transform=None):
        super().__init__(split, transform)
        if split == "test":
            self.labels, self.images = self.labels[::7], self.images[::7]


class WithBatchNorm(torch.nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(in_features)

    def forward(self, features):
        return self.norm(features)


@pytest.fixture(autouse=True)
def own_names(monkeypatch):
    monkeypatch.setattr(registry, "_extra", {k: {**v} for k, v in _extra().items()})
    registry.register("dataset", OneOfAClass)
    registry.register("embedder", WithBatchNorm)


def _extra():
    return registry._extra


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tester~APPLY~2": {"visualizer": {"TSNE": {}}}}, "evaluation fails.*fit"),
        ({"tester~SWAP~1": {"WithSameParentLabelTester": None}}, "one level"),
        ({"tester~SWAP~1": {"GlobalTwoStreamEmbeddingSpaceTester": None}}, "two imag"),
        ({"trainer~SWAP~1": {"TwoStreamMetricLoss": None}}, "not two images"),
        ({"dataset~OVERRIDE~": {"OneOfAClass": {}}}, "no class has two images"),
        (
            {
                "models": {"embedder~OVERRIDE~": {"WithBatchNorm": {}}},
                "trainer~APPLY~2": {"batch_size": 55},
            },
            "last batch of an epoch, of one image .*drop_last.* fails: ValueError",
        ),
        ({"tester~APPLY~4": {"k": 28}}, "k is 28, but there are 27 images"),
        (
            {"trainer~APPLY~2": {"iterations_per_epoch": 1e3}},
            "iterations_per_epoch must be an integer, got 1000.0",
        ),
        (
            {"trainer~APPLY~2": {"dataloader_num_workers": -1}},
            "dataloader_num_workers must be an integer >= 0, got -1",
        ),
        (
            {
                "loss_funcs": {
                    "metric_loss~OVERRIDE~": {"MultipleLosses": {"losses": 3}}
                }
            },
            "losses: expected classes by name, got 3",
        ),
        (
            {"loss_funcs": {"metric_loss_extra": {"ContrastiveLoss": {}}}},
            "metric_loss_extra would not be used.*Did you mean 'metric_loss'",
        ),
        (
            {"mining_funcs": {"tuple_miner_two": {"MultiSimilarityMiner": {}}}},
            "tuple_miner_two would not be used",
        ),
        (
            {
                "trainer~APPLY~2": {
                    "loss_weights": {"metric_loss": 1, "metric_loss2": 1}
                }
            },
            "loss_weights.metric_loss2 would not be used",
        ),
        ({**WITH_CLASSIFIER, **CROSS_ENTROPY}, "loss_funcs.classifier_loss: not used"),
        ({**WITH_CLASSIFIER, **CLASSIFIER}, "models.classifier: not used"),
        (
            {**CASCADED, "trainer~APPLY~2": {"embedding_sizes": [2, 2]}},
            "must sum up to 6",
        ),
        (
            {**CASCADED, "trainer~APPLY~2": {"embedding_sizes": [6]}},
            "metric_loss_1: .*has 1 parts",
        ),
        (
            {"sampler": {"MPerClassSampler": {"m": 2, "length_before_new_iter": 4}}},
            "MPerClassSampler: AssertionError, as this does not hold in .*assert self"
            r".*batch_size is \d+, and there are \d+ classes",
        ),
    ],
)
def test_what_would_fail_later_fails_now(tmp_path, changes, message):
    """In check, and in run before anything is written."""
    config = tiny.config(changes)
    found = Checker(CPU).check(config)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        raise ConfigError(found.builds)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        experiment.run(config, tmp_path, CPU)
    assert not list(tmp_path.iterdir())


KNN = {"CustomKNN": {"distance": {"CosineSimilarity": {}}, "batch_size": 5}}


@pytest.mark.parametrize(
    "changes",
    [
        {"tester~APPLY~4": {"knn_func": KNN}},
        {"trainer~APPLY~2": {"batch_size": 55}},  # a last batch of one, no batch norm
        {"tester~APPLY~2": {"pca": 4}, "tester~APPLY~4": {"k": 27}},
        {
            **WITH_CLASSIFIER,
            **CLASSIFIER,
            **CROSS_ENTROPY,
        },
        CASCADED,
        {"loss_funcs": {"metric_loss~OVERRIDE~": {"P2SGradLoss": {}}}},
        {
            "loss_funcs": {
                "metric_loss~OVERRIDE~": {
                    "MarginLoss": {"num_classes": None, "learn_beta": True}
                }
            }
        },
        {
            "loss_funcs": {
                "metric_loss~OVERRIDE~": {
                    "MultipleLosses": {
                        "losses": [{"ContrastiveLoss": None}, SOFTMAX],
                        "miners": [{"MultiSimilarityMiner": {}}, None],
                    }
                }
            }
        },
        {"sampler": {"MPerClassSampler": {"m": 2}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_passes_runs(tmp_path, changes):
    changes = {**changes, "num_epochs_train": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PML's, on how k is chosen
        assert Checker(CPU).check(tiny.config(changes)).ready
        folder = run(tmp_path, changes)
    assert history(folder, "seed0")["finished"]
    assert (folder / "seed0/models/trunk_2.pth").exists()


def test_classes_that_were_never_counted_are_those_that_there_are():
    """Six weights fit six classes, not the 40 of a stand-in."""
    reducer = {"ClassWeightedReducer": {"weights": [1.0] * 8}}
    loss = {"NormalizedSoftmaxLoss": {"reducer": reducer}}
    changes = {"loss_funcs": {"metric_loss~OVERRIDE~": loss}}
    assert Checker(CPU).check(tiny.config(changes)).ready


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
def test_embeddings_that_become_nan_are_a_result(tmp_path):
    """With weights that are finite still."""
    from benchmarks import networks

    trained = []

    class Diverging(networks.UnitEmbedder):
        def forward(self, features):
            if self.training:
                trained.append(None)
            diverged = len(trained) > 4 + 6  # in the second epoch; two are rehearsed
            return super().forward(features) * (float("nan") if diverged else 1.0)

    registry.register("embedder", Diverging)
    changes = {"models": {"embedder~OVERRIDE~": {"Diverging": {"out_features": 6}}}}
    changes |= {"patience": 1, "tsne_classes": 2}
    folder = run(tmp_path, changes)
    found = history(folder, "seed0")
    accuracies = [set(e["splits"]["test"].values()) for e in found["epochs"]]
    assert found["finished"] and accuracies[-1] == {0.0} and accuracies[0] != {0.0}


def test_a_memory_is_measured_and_given_back(monkeypatch):
    """On a CPU it is not even filled: its kernel ends what has more than there is."""
    usual, seen = MemVir.allocate_memory, []

    def allocate(self, batch_size):
        usual(self, batch_size)
        seen.append((self, {p.device.type for p in self.parameters()}))

    monkeypatch.setattr(MemVir, "allocate_memory", allocate)
    assert Checker(CPU).check(tiny.config()).ready
    ((memvir, devices),) = seen
    assert devices == {"meta"} and memvir.memory_nbytes == 0
    little = SimpleNamespace(total=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    found = Checker(CPU).check(tiny.config()).builds
    assert "making room for MemVir's memory fails" in found and "0.0 MB" in found


def test_names_that_cannot_work_are_not_listed():
    pytest.importorskip("torchvision", reason="some names are torchvision's")
    for kind, names in registry.UNUSABLE.items():
        assert not set(names) & set(registry.names(kind))
