"""Files of weights: forms that are read, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from benchmarks import networks
from benchmarks.backbones import CheckpointError, load_checkpoint


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
