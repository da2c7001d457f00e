"""BN-Inception is the one that papers report, and reads the ports of its weights."""

import collections
import io
import pickle
import struct

import pytest
import torch
from torch import nn

from benchmarks.backbones import BACKBONES


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
