"""Images as networks take them."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.backbones import CAFFE, GLYPHS, IMAGENET, Preprocessing
from benchmarks.demo import to_tensor


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


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
