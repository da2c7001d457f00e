"""Configs: overlays, names, and what is refused."""

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from pytorch_metric_learning import losses as pml_losses  # noqa: E402
from pytorch_metric_learning import reducers, regularizers  # noqa: E402

from benchmarks.config import (  # noqa: E402
    ConfigError,
    differences,
    load,
    load_saved,
    load_values,
    registry,
    save,
)
from benchmarks.config.building import build  # noqa: E402
from benchmarks.config.overlay import overlay  # noqa: E402
from benchmarks.config.search import ranges, with_values  # noqa: E402
from pml_memvir import MemVir  # noqa: E402
from pml_memvir import losses as own_losses  # noqa: E402

OPTIMIZERS = {
    "optimizers": {
        "trunk_optimizer": {"RMSprop": {"lr": 1e-6}},
        "embedder_optimizer": {"Adam": {"lr": 0.01}},
    }
}
TRAINER = {"trainer": {"MetricLossOnly": {"workers": 2, "batch_size": 32}}}
TRANSFORMS = {
    "transforms": {
        "train": {"Resize": {"size": 256}, "RandomHorizontalFlip": {"p": 0.5}},
        "eval": {"Resize": {"size": 256}},
    }
}


@pytest.mark.parametrize(
    "base, top, expected",
    [
        (  # mappings are merged
            OPTIMIZERS,
            {"optimizers": {"trunk_optimizer": {"RMSprop": {"lr": 0.1, "alpha": 0.9}}}},
            {
                "optimizers": {
                    "trunk_optimizer": {"RMSprop": {"lr": 0.1, "alpha": 0.9}},
                    "embedder_optimizer": {"Adam": {"lr": 0.01}},
                }
            },
        ),
        (
            OPTIMIZERS,
            {"optimizers~OVERRIDE~": {"trunk_optimizer": {"Adam": {"lr": 0.1}}}},
            {"optimizers": {"trunk_optimizer": {"Adam": {"lr": 0.1}}}},
        ),
        (  # at any level
            OPTIMIZERS,
            {"optimizers": {"trunk_optimizer~OVERRIDE~": {"Adam": {"lr": 0.1}}}},
            {
                "optimizers": {
                    "trunk_optimizer": {"Adam": {"lr": 0.1}},
                    "embedder_optimizer": {"Adam": {"lr": 0.01}},
                }
            },
        ),
        (
            OPTIMIZERS,
            {"optimizers": {"embedder_optimizer~DELETE~": {}}},
            {"optimizers": {"trunk_optimizer": {"RMSprop": {"lr": 1e-6}}}},
        ),
        (
            TRAINER,
            {"trainer~APPLY~2": {"batch_size": 256}},
            {"trainer": {"MetricLossOnly": {"workers": 2, "batch_size": 256}}},
        ),
        (
            OPTIMIZERS,
            {"optimizers~APPLY~3": {"lr": 0.005}},
            {
                "optimizers": {
                    "trunk_optimizer": {"RMSprop": {"lr": 0.005}},
                    "embedder_optimizer": {"Adam": {"lr": 0.005}},
                }
            },
        ),
        (
            TRAINER,
            {"trainer~SWAP~1": {"Custom": {}}},
            {"trainer": {"Custom": {"workers": 2, "batch_size": 32}}},
        ),
        (
            TRANSFORMS,
            {"transforms~SWAP~2": {"RandomHorizontalFlip": "RandomVerticalFlip"}},
            {
                "transforms": {
                    "train": {
                        "Resize": {"size": 256},
                        "RandomVerticalFlip": {"p": 0.5},
                    },
                    "eval": {"Resize": {"size": 256}},
                }
            },
        ),
        (  # one after the other, as in a file that swaps and then applies
            TRAINER,
            {"trainer~SWAP~1": {"C": None}, "trainer~APPLY~2": {"g": 1}},
            {"trainer": {"C": {"workers": 2, "batch_size": 32, "g": 1}}},
        ),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        (
            {"a": {"lr": 1}},
            {"a": {"lr~LOG_BAYESIAN~": [1, 2]}},
            {"a": {"lr~LOG_BAYESIAN~": [1, 2]}},
        ),
        ({"a": {"lr~BAYESIAN~": [1, 2]}}, {"a": {"lr": 3}}, {"a": {"lr": 3}}),
    ],
)
def test_overlay(base, top, expected):
    before = repr(base)
    result = overlay(base, top)
    assert result == expected
    for key, value in expected.items():  # order counts, in transforms
        if isinstance(value, dict):
            assert list(result[key]) == list(value)
    assert repr(base) == before


@pytest.mark.parametrize(
    "top, message",
    [
        ({"trainr~APPLY~2": {"a": 1}}, "Did you mean 'trainer'"),
        ({"trainer~DELETE": {}}, "suffix"),
        ({"trainer~REMOVE~": {}}, "suffix"),
        ({"trainer~APPLY~": {"a": 1}}, "depth of 1 or more"),
        ({"trainer~OVERRIDE~2": {"a": 1}}, "depth of 1 or more"),
        ({"trainer~APPLY~5": {"a": 1}}, "no mapping 5 levels down"),
        ({"trainer~SWAP~2": {"New": {}}}, "there are 2 keys"),
        ({"trainer~SWAP~1": {"Absent": "New"}}, "none of Absent"),
        ({"trainer~APPLY~2": 3}, "expected a mapping"),
        ({"new": {"a~DELETE~": {}}}, "no 'a' to delete"),
        ({"trainer~SWAP~2": {"workers": "batch_size"}}, "a 'batch_size' already"),
        ({"trainer~SWAP~2": {"workers": "w", "batch_size": None}}, "expected {old"),
    ],
)
def test_overlay_refuses(top, message):
    with pytest.raises(ConfigError, match=message):
        overlay(TRAINER, top)


# ------------------------------------------------------------------------- building

FILL = {"num_classes": 7, "embedding_size": 4, "steps_per_epoch": 63}


def loss(spec):
    return build("loss", spec, "loss_funcs.metric_loss", fill=FILL)


def test_nested_losses_get_classes_and_sizes():
    built = loss(
        {
            "MemVir": {
                "loss": {"CosFaceLoss": {"margin": 0.2, "reducer": "MeanReducer"}},
                "num_steps": 45,
                "step_gap": 10,
                "warmup_epochs": 40,
                "memory_dtype": "bfloat16",
            }
        }
    )
    assert isinstance(built, MemVir) and isinstance(built.loss, pml_losses.CosFaceLoss)
    assert built.loss.W.shape == (4, 7) and built.loss.margin == 0.2
    assert isinstance(built.loss.reducer, reducers.MeanReducer)
    assert (built.num_steps, built.step_gap, built.warmup_steps) == (45, 10, 40 * 63)

    several = loss(
        {
            "MultipleLosses": {
                "losses": {
                    "a": {"NormSoftmax": {"scale": 3.0}},
                    "b": {"ContrastiveLoss": {"distance": {"LpDistance": {"p": 1}}}},
                },
                "weights": {"a": 1.0, "b": 0.5},
            }
        }
    )
    assert isinstance(several.losses["a"], own_losses.NormSoftmax)
    assert several.losses["b"].distance.p == 1
    listed = loss(
        {
            "MultipleLosses": {
                "losses": [{"ContrastiveLoss": None}, {"NormSoftmax": {}}],
                "miners": [{"MultiSimilarityMiner": {}}, None],
                "weights": [0.5, 1],
            }
        }
    )
    assert list(listed.losses) == ["loss_0", "loss_1"] == list(listed.weights)
    weighted = {"ClassWeightedReducer": {"weights": [1.0] * 7}}
    reducer = loss({"NormSoftmax": {"reducer": weighted}}).reducer
    assert reducer.weights.tolist() == [1.0] * 7
    memory = loss(
        {"CrossBatchMemory": {"loss": {"ContrastiveLoss": None}, "memory_size": 20}}
    )
    assert memory.embedding_memory.shape == (20, 4)
    regularised = loss(
        {"ProxyNCA": {"weight_regularizer": "RegularFaceRegularizer", "scale": 9.0}}
    )
    assert isinstance(
        regularised.weight_regularizer, regularizers.RegularFaceRegularizer
    )


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"NormSoftmx": {}}, r"unknown loss 'NormSoftmx'\. Did you mean 'NormSoftmax'"),
        ({"normsoftmax": {}}, "Did you mean 'NormSoftmax'"),
        (
            {"CosFaceLoss": {"margn": 1}},
            "unknown argument 'margn'. Did you mean 'margin'",
        ),
        ({"CosFaceLoss": {}, "ArcFaceLoss": {}}, "expected one class, got 2.*OVERRIDE"),
        ({"CosFaceLoss": 3}, "expected arguments, got 3"),
        (["CosFaceLoss"], "expected {ClassName: arguments}"),
        ({"NormSoftmax": {"scale": -1}}, "NormSoftmax: scale must be > 0"),
        ({"CosFaceLoss": {"margin": "abc"}}, "margin must be a number, got 'abc'"),
        ({"NormSoftmax": {"num_classes": 9}}, "num_classes is 9, but there are 7"),
        ({"MemVir": {"loss": {"NormSoftmax": {}}, "num_steps": 2}}, "needs step_gap"),
        (
            {
                "MemVir": {
                    "loss": {"ContrastiveLoss": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                }
            },
            "ContrastiveLoss",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                    "warmup_steps": 5,
                    "warmup_epochs": 1,
                }
            },
            "not both",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                    "memory_dtype": "float",
                    "memory_device": "disk",
                }
            },
            "memory_device",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {"sale": 1}},
                    "num_steps": 2,
                    "step_gap": 1,
                }
            },
            r"MemVir\.loss\.NormSoftmax: unknown argument 'sale'. Did you mean 'scale'",
        ),
    ],
)
def test_losses_that_cannot_be_meant(spec, message):
    with pytest.raises(ConfigError, match=message):
        loss(spec)


def test_arguments_that_the_suite_passes_are_refused():
    with pytest.raises(ConfigError, match=r"params is filled in"):
        build("optimizer", {"SGD": {"params": [], "lr": 1}}, "o", given={"params": []})


def test_names_of_ones_own():
    class Other(own_losses.NormSoftmax):
        pass

    registry.register("loss", Other)
    assert isinstance(loss("Other"), Other)
    assert "Other" in registry.names("loss") and "MemVir" in registry.names("loss")
    assert "partial" not in registry.names("loss")
    assert "DatasetError" not in registry.names("dataset")
    assert not [n for n in registry.names("loss") if n.startswith("Base")]


# -------------------------------------------------------------------------- loading


@pytest.fixture
def folder(tmp_path):
    files = {
        "default": "trainer: {MetricLossOnly: {batch_size: 32}}\nnum_epochs_train: 3\n",
        "shared": "num_epochs_train: 5\nsave_interval: 2\n",
        "arm": "on_top_of: [shared]\nbaseline: x/plain\nsave_interval: 3\n"
        "patience: ${num_epochs_train}\n",
        "more": "trainer~APPLY~2: {batch_size: 64}\n",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_layers(folder):
    values = load_values(str(folder / "arm.yaml"), ["more"], ["a.b=1e-3", "c=[1, x]"])
    assert values["trainer"] == {"MetricLossOnly": {"batch_size": 64}}
    assert (values["num_epochs_train"], values["save_interval"]) == (5, 3)
    assert values["experiment_name"] == f"{folder.name}/arm+more"
    assert values["baseline"] == "x/plain+more"
    assert values["a"] == {"b": 0.001} and values["c"] == [1, "x"]


@pytest.mark.parametrize(
    "name, extra, overrides, message",
    [
        ("cars196/norm_softmx", [], [], "Did you mean 'cars196/norm_softmax'"),
        ("glyphs/softmax", ["resnet5"], [], "Did you mean 'resnet50'"),
        (
            "glyphs/softmax",
            [],
            ["num_epoch_train=3"],
            "Did you mean 'num_epochs_train'",
        ),
        ("glyphs/softmax", [], ["num_epochs_train=x"], "an integer, got 'x'"),
        (
            "glyphs/softmax",
            [],
            ["seeds=0"],
            "a list of integers, such as .0, 1., got 0",
        ),
        ("glyphs/softmax", [], ["deterministic=3"], "true or false, got 3"),
        ("glyphs/softmax", [], ["num_epochs_train=null"], "must not be null"),
        ("glyphs/softmax", [], ["models=3"], "models: expected"),
        ("glyphs/softmax", [], ["trainer.batch_size=3"], "trainer~APPLY~2"),
        ("glyphs/softmax", [], ["num_epochs_train=0"], "must be >= 1"),
        ("glyphs/softmax", [], ["seeds=[1,1]"], "distinct"),
        ("glyphs/softmax", [], ["patience=-1"], "patience must be >= 0"),
        ("glyphs/softmax", [], ["experiment_name=../x"], "within the output folder"),
        ("glyphs/softmax", [], ["experiment_name=/x"], "within the output folder"),
        ("glyphs/softmax", [], ["aggregator={}"], "aggregator is not needed here"),
        ("glyphs/softmax", [], ["num_epochs_train"], "expected a.b=value"),
        ("glyphs/softmax", [], ["a.b={"], "override"),
        ("glyphs/softmax", [], ["save_interval=99"], "nothing would be evaluated"),
        ("glyphs/softmax", [], ["patience=${nothing}"], "nothing"),
        (
            "glyphs/softmax",
            [],
            ["optimizers.trunk_optimizer.Adam.lr~LOG_BAYESIAN~=[1,2]"],
            "optimizers.trunk_optimizer.Adam.lr: a range to search.*tune",
        ),
    ],
)
def test_load_refuses(name, extra, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(name, extra, overrides)


@pytest.mark.parametrize(
    "text", ["a: [", "- a\n- b\n", "a: !!python/object/apply:os.system [ls]\n"]
)
def test_files_that_are_no_config(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="x.yaml"):
        load(str(path))


def test_a_file_of_ones_own_on_top_of_presets(tmp_path):
    (tmp_path / "default.yaml").write_text(
        "on_top_of: [glyphs/default]\ntrainer~APPLY~2: {batch_size: 7}\n"
    )
    (tmp_path / "arm.yaml").write_text("loss_funcs: {metric_loss: {NormSoftmax: {}}}\n")
    config = load(str(tmp_path / "arm.yaml"))
    assert config.dataset == load("glyphs/softmax").dataset
    assert config.trainer["MetricLossOnly"]["batch_size"] == 7
    assert config.trainer["MetricLossOnly"]["drop_last"] is False  # of all presets
    assert config.seeds == [0, 1, 2, 3, 4]


def test_files_on_top_of_each_other(tmp_path):
    (tmp_path / "a.yaml").write_text("on_top_of: [b]\n")
    (tmp_path / "b.yaml").write_text("on_top_of: [a]\n")
    with pytest.raises(ConfigError, match="on top of itself: a.yaml on top of b.yaml"):
        load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    "extra, overrides, source",
    [
        ([], [], "official"),
        ([], ["seeds=[7]", "dataset.Cars196.root=/data"], "official"),
        ([], ["trainer~APPLY~2.dataloader_num_workers=9"], "official"),
        ([], ["num_epochs_train=6"], "ours"),
        (["resnet50"], [], "ours"),
        (["validation"], [], "ours"),
        ([], ["optimizers~APPLY~3.lr=0.1"], "ours"),
    ],
)
def test_changed_settings_are_not_official(extra, overrides, source):
    assert load("cars196/norm_softmax", extra, overrides).source == source


def test_saved_config_is_the_config(tmp_path):
    config = load("cars196/proxy_nca_memvir", ["resnet50"])
    save(config, tmp_path / "config.yaml")
    again = load_saved(tmp_path / "config.yaml")
    assert again == config and differences(config, again) == []
    other = load("cars196/proxy_nca_memvir", ["resnet50"], ["seeds=[7]"])
    assert differences(config, other) == ["seeds: [0, 1, 2, 3, 4] -> [7]"]


def test_ranges():
    values = {"o": {"Adam": {"lr~LOG_BAYESIAN~": [1e-4, 1], "n~INT_BAYESIAN~": [1, 9]}}}
    lr, n = ranges(values)
    assert (lr.path, lr.low, lr.high, lr.log) == ("o.Adam.lr", 1e-4, 1, True)
    assert n.integer and not n.log
    assert with_values(values, {"o.Adam.lr": 0.1, "o.Adam.n": 3}) == {
        "o": {"Adam": {"lr": 0.1, "n": 3}}
    }
    for bad in ([1], [2, 1], ["a", "b"], 3, [0, 1]):
        with pytest.raises(ConfigError, match="expected"):
            ranges({"lr~LOG_BAYESIAN~": bad})
