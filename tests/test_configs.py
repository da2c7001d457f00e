"""Configs are loaded in layers, checked, saved and loaded again."""

from dataclasses import asdict

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from benchmarks.config import (  # noqa: E402
    ConfigError,
    differences,
    load,
    load_saved,
    load_values,
    save,
)
from benchmarks.config.schema import validated  # noqa: E402
from benchmarks.config.search import ranges, with_values  # noqa: E402


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
    values = load_values(
        str(folder / "arm.yaml"), ["more"], ["optimizers.b=1e-3", "seeds=[1, x]"]
    )
    assert values["trainer"] == {"MetricLossOnly": {"batch_size": 64}}
    assert (values["num_epochs_train"], values["save_interval"]) == (5, 3)
    assert values["experiment_name"] == f"{folder.name}/arm+more"
    assert values["baseline"] == "x/plain+more"
    assert values["optimizers"]["b"] == 0.001 and values["seeds"] == [1, "x"]
    (folder / "own.yaml").write_text("baseline: 2024\n")
    values = load_values(str(folder / "arm.yaml"), ["more", "own"])
    assert values["baseline"] == 2024  # as it is written


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
        ("glyphs/softmax", [], ["aggregator={A: 1}"], "aggregator is not needed here"),
        ("glyphs/softmax", [], ["num_epochs_train"], "expected a.b=value"),
        ("glyphs/softmax", [], ["a.b={"], "override"),
        ("glyphs/softmax", [], ["a.seeds[0]=1"], "a.seeds must be given as a whole"),
        ("glyphs/softmax", [], ["save_interval=99"], "nothing would be evaluated"),
        ("glyphs/softmax", [], ["patience=${nothing}"], "nothing"),
        ("glyphs/softmax", [], ["num_epochs_train=???"], "epochs_train is missing"),
        (
            "glyphs/softmax",
            [],
            ["num_epochs_train=???", "experiment_name=???"],
            "keys are missing: experiment_name, num_epochs_train",
        ),
        ("glyphs/softmax", [], ["seeds=[4294967296]"], "from 0 to 2..32 - 1"),
        ("glyphs/softmax", [], ["loss_funcs={1: 2}"], "names must be text, got 1"),
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


def test_defaults_can_be_referred_to_and_numbers_are_names():
    values = asdict(load("glyphs/softmax", [], ["experiment_name=2024"]))
    assert values.pop("tsne_classes") == 20 and values["experiment_name"] == "2024"
    assert validated({**values, "patience": "${tsne_classes}"}).patience == 0


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


def test_a_preset_as_a_layer(tmp_path):
    """It need not be a file: it is its loss's, its data set's and its own."""
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    path = tmp_path / "arm.yaml"
    path.write_text("on_top_of: [cars196/proxy_nca_memvir]\nnum_epochs_train: 30\n")
    config, preset = load(str(path)), load("cars196/proxy_nca_memvir")
    assert config.loss_funcs == preset.loss_funcs
    assert config.baseline == preset.baseline == "cars196/proxy_nca"
    assert config.num_epochs_train == 30 and preset.num_epochs_train == 2000


@pytest.mark.parametrize("name", ["glyphs/default.yaml", "presets/glyphs/default"])
def test_a_preset_to_lay_over_may_be_named_as_a_file(tmp_path, name):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"on_top_of: [{name}]\nloss_funcs: {{metric_loss: {{Softmax: {{}}}}}}\n"
    )
    assert load(str(path)).dataset == load("glyphs/softmax").dataset


def test_a_file_to_lay_over_that_is_not_there(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("on_top_of: [glyphs/defaults]\n")
    with pytest.raises(ConfigError, match="glyphs/default'"):
        load(str(path))


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
        ([], ["dataset.Cars196.in_memory=true"], "official"),
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
    values = {
        "o": {"Adam": {"lr~LOG_BAYESIAN~": [1e-4, 1], "n~INT_BAYESIAN~": [1.0, 9]}}
    }
    lr, n = ranges(values)
    assert (lr.path, lr.low, lr.high, lr.log) == ("o.Adam.lr", 1e-4, 1, True)
    assert n.integer and not n.log and type(n.low) is int
    assert with_values(values, {"o.Adam.lr": 0.1, "o.Adam.n": 3}) == {
        "o": {"Adam": {"lr": 0.1, "n": 3}}
    }
    for bad in ([1], [2, 1], ["a", "b"], 3, [0, 1]):
        with pytest.raises(ConfigError, match="expected"):
            ranges({"lr~LOG_BAYESIAN~": bad})
