"""The presets: complete, buildable, and CARS196's are the official settings."""

import copy
import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.config import layers, load, preset_names
from benchmarks.config.building import split_spec
from benchmarks.protocol import check
from benchmarks.protocol.check import Checker
from benchmarks.protocol.trial import build_trial
from benchmarks.report.published import published
from pml_memvir import MemVir

PHOTOGRAPHS = ("cub200_2010", "cars196_half")
PAPERS = ("cub200", "cars196", "sop", "inshop")
DATASETS = (*PAPERS, *PHOTOGRAPHS, "emoji", "glyphs", "kanji")
RESNETS = sorted(path.stem for path in layers.OVERLAYS.glob("resnet*.yaml"))
LOSSES = {
    "softmax": "Softmax",
    "norm_softmax": "NormSoftmax",
    "cosface": "CosFaceLoss",
    "arcface": "ArcFaceLoss",
    "proxy_nca": "ProxyNCA",
    "proxy_anchor": "ProxyAnchorLoss",
}

loaded = functools.cache(load)  # for reading only


def test_every_arm_is_there():
    expected = {
        f"{dataset}/{loss}{memvir}"
        for dataset in DATASETS
        for loss in LOSSES
        for memvir in ("", "_memvir")
    }
    assert set(preset_names()) == expected


@pytest.mark.parametrize("name", preset_names())
def test_preset(name):
    config = loaded(name)
    dataset, _, arm = name.partition("/")
    loss, arguments = split_spec(config.loss_funcs["metric_loss"], "loss")
    if arm.endswith("_memvir"):
        plain = loaded(f"{dataset}/{arm.removesuffix('_memvir')}")
        assert loss == "MemVir" and config.baseline == plain.experiment_name
        assert arguments["loss"] == plain.loss_funcs["metric_loss"]
        # Nothing but loss and schedule differs.
        for key in ("models", "transforms", "dataset", "trainer", "tester", "seeds"):
            assert getattr(config, key) == getattr(plain, key)
        loss, _ = split_spec(arguments["loss"], "loss")
    else:
        assert config.baseline is None
    assert loss == LOSSES[arm.removesuffix("_memvir")]
    assert config.experiment_name == name
    if dataset in ("cub200", "cars196", "sop"):
        assert published(name)
    assert len(config.seeds) == 5


@pytest.mark.parametrize("dataset", ["glyphs", "sop", "inshop"])
def test_long_trainings_have_the_setting_of_the_readme(dataset):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (line,) = re.findall(r"num_steps=.*class_weights_every=\d+", readme)
    arm = loaded(f"{dataset}/proxy_anchor_memvir").loss_funcs["metric_loss"]["MemVir"]
    assert line == ", ".join(
        f"{key}={value}" for key, value in arm.items() if f"{key}=" in line
    )


# A small trunk stands for the real ones; those of these data sets are built below.
TRUNKS_OF = ("cars196", "cars196_half", "emoji", "glyphs")
SMALL_TRUNK = {"SmallConvNet": {"width": 8}}


def without_data_and_weights():
    checker = Checker(torch.device("cpu"))
    checker._once = lambda spec, action: "not here"
    return checker


@pytest.mark.parametrize("name", preset_names())
def test_preset_builds(name):
    config = loaded(name)
    if config.transforms:
        pytest.importorskip("torchvision", reason="transforms are torchvision's")
    models = {**copy.deepcopy(config.models), "trunk": SMALL_TRUNK}
    checker = without_data_and_weights()
    assert checker.check(replace(config, models=models)).builds == "ok"


def test_what_configs_share_is_looked_at_once_and_nothing_else(monkeypatch):
    """What is done with the data is rehearsed for each."""
    config = load("glyphs/softmax")
    other = replace(config, transforms={"train": {"RandomHorizontalFlip": {}}})
    configs = [config, replace(config, baseline="x"), other]
    looked, rehearsed = [], []
    monkeypatch.setattr(check, "make_splits", lambda *a: looked.append(a))
    monkeypatch.setattr(check, "check_images", lambda splits: None)
    monkeypatch.setattr(check, "rehearse", lambda *a: rehearsed.append(a))
    checker = Checker(torch.device("cpu"))
    for one in configs:
        checker.check(one)
    assert len(looked) == 2 and len(rehearsed) == 3


@pytest.mark.parametrize("dataset", TRUNKS_OF)
def test_networks_of_presets_build(dataset):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    config = load(f"{dataset}/norm_softmax_memvir")
    if "efficientnet_lite0" in config.models["trunk"]:
        pytest.importorskip("efficientnet_lite_pytorch", reason="the network")
    assert without_data_and_weights().check(config).builds == "ok"


def test_every_trunk_is_built():
    names = [f"{dataset}/norm_softmax_memvir" for dataset in TRUNKS_OF]
    built = [loaded(name).models["trunk"] for name in names]
    assert [x for x in preset_names() if loaded(x).models["trunk"] not in built] == []


@pytest.mark.parametrize(
    "overlay", ["resnet18", "max_pooling", "avg_max_pooling", "cross_validation"]
)
def test_overlays_build(overlay):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    checker = without_data_and_weights()
    config = load("cars196/norm_softmax_memvir", [overlay])
    assert checker.check(config).builds == "ok"


@pytest.mark.parametrize("overlay", RESNETS)
def test_overlays_of_networks_are_those_of_torchvision(overlay):
    models = pytest.importorskip("torchvision.models", reason="the networks")
    trunk = load("cars196/norm_softmax_memvir", [overlay]).models["trunk"]
    assert list(trunk) == [overlay]
    assert trunk[overlay]["weights"] in models.get_model_weights(overlay).__members__


def test_the_overlay_of_mixed_precision():
    config = load("cars196/norm_softmax_memvir", ["amp"])
    assert config.trainer["MetricLossOnly"]["mixed_precision"] == "float16"


def official(name):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    config = load(f"cars196/{name}")

    class Stand:
        def __init__(self, split, arguments, transform):
            count, classes = (8054, 98) if split == "train" else (8131, 98)
            first = 0 if split == "train" else 98
            self.labels = [first + i % classes for i in range(count)]

        def __len__(self):
            return len(self.labels)

    models = {**copy.deepcopy(config.models), "trunk": SMALL_TRUNK}
    return build_trial(
        replace(config, models=models), 0, None, None, torch.device("cpu"), Stand
    )


@pytest.mark.parametrize(
    "name, scale, epochs, interval, memvir",
    [
        ("norm_softmax", 23, 130, 5, None),
        ("norm_softmax_memvir", 23, 2000, 10, (45, 10)),
        ("proxy_nca", 12, 130, 5, None),
        ("proxy_nca_memvir", 12, 2000, 10, (20, 25)),
    ],
)
def test_cars196_is_official(name, scale, epochs, interval, memvir):
    """The commands of the official README, and the defaults of its main.py."""
    trial = official(name)
    config, loss = trial.config, trial.loss_funcs["metric_loss"]
    assert config.source == "official"
    assert trial.steps_per_epoch == 63  # with the last, smaller batch
    assert trial.trainer.batch_size == 128 and trial.trainer.freeze_trunk_batchnorm
    assert (config.num_epochs_train, config.save_interval) == (epochs, interval)
    assert loss.scale == scale and loss.W.shape == (512, 98)
    if memvir is not None:
        assert isinstance(loss, MemVir)
        assert (loss.num_steps, loss.step_gap) == memvir
        assert loss.warmup_steps == 40 * 63
    for key, lr in (
        ("trunk_optimizer", 1e-4),
        ("embedder_optimizer", 1e-4),
        ("metric_loss_optimizer", 1e-2),
    ):
        optimizer = trial.trainer.optimizers[key]
        assert isinstance(optimizer, torch.optim.Adam)
        group = optimizer.param_groups[0]
        assert (group["lr"], group["eps"], group["weight_decay"]) == (lr, 0.01, 1e-4)
        # A tenth from epoch 50 on, or in the last epoch of the long schedule.
        scheduler = trial.trainer.lr_schedulers[
            key.replace("_optimizer", "_scheduler_by_epoch")
        ]
        first_low = 50 if memvir is None else 2000
        lrs = {}
        for epoch in range(1, epochs + 1):
            lrs[epoch] = group["lr"]
            optimizer.step()
            scheduler.step()
        assert lrs[first_low - 1] == lr
        assert lrs[first_low] == pytest.approx(lr / 10)
        assert lrs[epochs] == pytest.approx(lr / 10)
    train = trial.splits.train.dataset.__class__
    assert train.__name__ == "Stand"
    names = [type(t).__name__ for t in _transforms(config, "train")]
    assert names == ["RandomResizedCrop", "RandomHorizontalFlip", "Preprocessing"]
    crop = _transforms(config, "train")[0]
    assert tuple(crop.size) == (224, 224) and tuple(crop.scale) == (0.08, 1.0)
    assert [type(t).__name__ for t in _transforms(config, "eval")] == [
        "Resize",
        "CenterCrop",
        "Preprocessing",
    ]


def _transforms(config, key):
    from benchmarks.backbones import CAFFE
    from benchmarks.protocol.transforms import compose

    return compose(config.transforms[key], CAFFE, key).transforms


def test_missing_data_and_weights_are_told():
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    config = load("cars196/norm_softmax", [], ["dataset.Cars196.root=/absent"])
    found = Checker(torch.device("cpu")).check(config)
    assert found.builds == "ok" and not found.ready
    assert "data prepare cars196" in found.data and "/absent" in found.data
    assert "there is no checkpoint" in found.weights
