"""Backbones by name, their pooling and weights; embedders."""

import copy
import sys

import pytest
import torch
from torch import nn

from benchmarks.backbones import (
    BACKBONES,
    CAFFE,
    EMBEDDERS,
    GLYPHS,
    IMAGENET,
    GlobalPooling,
)

OPTIONAL = {
    "efficientnet_lite0": "efficientnet_lite_pytorch",
    "resnet18": "torchvision",
    "resnet50": "torchvision",
}


def make(name, **options):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason=f"{name} is made of it")
    return BACKBONES[name](**options)


def test_pooling():
    x = torch.rand(2, 3, 4, 5)
    average = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
    highest = nn.functional.adaptive_max_pool2d(x, 1).flatten(1)
    torch.testing.assert_close(GlobalPooling("avg")(x), average)
    assert torch.equal(GlobalPooling("max")(x), highest)
    torch.testing.assert_close(GlobalPooling("avg+max")(x), average + highest)
    with pytest.raises(ValueError, match="must be one of .* got 'min'"):
        GlobalPooling("min")


@pytest.mark.parametrize(
    "name, size, preprocessing",
    [
        ("resnet18", 512, IMAGENET),
        ("resnet50", 2048, IMAGENET),
        ("bninception", 1024, CAFFE),
        ("efficientnet_lite0", 1280, None),
        ("SmallConvNet", 128, GLYPHS),
    ],
)
def test_backbone(name, size, preprocessing, tmp_path):
    """Shapes, and a checkpoint of a run's own."""
    backbone = make(name).eval()
    assert backbone.output_size == size
    assert preprocessing in (None, backbone.preprocessing)
    x = torch.randn(2, backbone.preprocessing.channels, 64, 64)
    expected = backbone(x)
    assert expected.shape == (2, size)
    torch.save(backbone.state_dict(), tmp_path / "trunk.pth")
    another = make(name, checkpoint=str(tmp_path / "trunk.pth")).eval()
    assert torch.equal(another(x), expected)
    assert torch.equal(copy.deepcopy(another)(x), expected)


@pytest.mark.parametrize("name", ["resnet18", "bninception", "efficientnet_lite0"])
def test_pooling_of_backbones(name):
    backbones = {kind: make(name, pooling=kind) for kind in ("avg", "max", "avg+max")}
    x = torch.randn(2, 3, 64, 64)
    outputs = []
    for backbone in backbones.values():
        backbone.load_state_dict(backbones["avg"].state_dict())
        outputs.append(backbone.eval()(x))
    torch.testing.assert_close(outputs[0] + outputs[1], outputs[2])
    assert not torch.allclose(outputs[0], outputs[1])


def test_unknown_names():
    with pytest.raises(ValueError, match="backbone must be one of resnet18.*'vgg'"):
        BACKBONES["vgg"]
    with pytest.raises(ValueError, match="embedder must be one of .* got 'mlp'"):
        EMBEDDERS["mlp"]
    with pytest.raises(ValueError, match="width must be at least 4, got 3"):
        BACKBONES["SmallConvNet"](width=3)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_missing_package(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=f"{name} needs .*: pip install "):
        BACKBONES[name]()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_two_sources_of_weights(name):
    with pytest.raises(ValueError, match="give one, got"):
        BACKBONES[name](weights="DEFAULT", checkpoint="file.pth")


def test_resnet_is_torchvisions(tmp_path):
    models = pytest.importorskip("torchvision.models", reason="the reference")
    reference = models.resnet18().eval()
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    backbone = make("resnet18", checkpoint=str(tmp_path / "resnet18.pth")).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(reference.fc(backbone(x)), reference(x))


def test_resnet_weights_by_name(tmp_path, monkeypatch):
    models = pytest.importorskip("torchvision.models", reason="the reference")
    reference = models.resnet18()
    asked = []

    def download(url, path, hash_prefix, progress):
        asked.append((url, hash_prefix))
        torch.save(reference.state_dict(), path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):  # the second time from the cache
        backbone = make("resnet18", weights="IMAGENET1K_V1")
    assert torch.equal(backbone.conv1.weight, reference.conv1.weight)
    assert asked == [(models.ResNet18_Weights.IMAGENET1K_V1.url, "f37072fd")]


def test_resnet_weights_that_cannot_be_had(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="one of IMAGENET1K_V1, DEFAULT, got 'V9'"):
        make("resnet18", weights="V9")

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ValueError, match="no route to host.* path as checkpoint"):
        make("resnet18", weights="DEFAULT")


def test_embedders():
    x = torch.randn(3, 6)
    unit = EMBEDDERS["UnitEmbedder"](6, 4)(x)
    assert unit.shape == (3, 4)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    assert EMBEDDERS["Linear"](6, 4)(x).shape == (3, 4)
    assert EMBEDDERS["Identity"]()(x) is x


def test_mlp():
    x = torch.randn(64, 6)
    mlp = EMBEDDERS["MLP"](6, [5, 4])
    first, relu, last = mlp.net
    assert isinstance(relu, nn.ReLU) and mlp.out_features == 4
    torch.testing.assert_close(mlp(x), last(first(x).relu()))
    assert (mlp(x) < 0).any()
    assert (EMBEDDERS["MLP"](6, [4], final_relu=True)(x) >= 0).all()
    unit = EMBEDDERS["MLP"](6, [4], normalize=True)(x)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(64))
    with pytest.raises(ValueError, match="at least one size, got none"):
        EMBEDDERS["MLP"](6, [])
