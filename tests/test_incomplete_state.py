"""States that lack the memory or a part of it, or have more than that."""

import warnings

import pytest
import torch

from pml_memvir.checkpoints import CheckpointError

from .catalog import norm_softmax, ragged, train
from .test_load_state import assert_untouched, frozen, trained

# ---------------------------------------------------------------------- without memory


def test_without_memory():
    memvir = trained(save_memory=False)
    state = memvir.state_dict()
    assert "memory.calls" in state and "memory.batch_sizes" not in state
    other = trained(3)
    with pytest.warns(UserWarning, match="holds no memory") as caught:
        other.load_state_dict(state)
    assert len(caught) == 1
    assert other.step == 7 and other.virtual_classes() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(other, ragged(1, 4))
    memvir.save_memory = True
    assert "memory.batch_sizes" in memvir.state_dict()


def test_without_memory_the_step_is_the_same_with_other_micro_batches():
    state = trained(10, save_memory=False).state_dict()
    other = norm_softmax(num_steps=5, step_gap=3, accumulation_steps=4)
    with pytest.warns(UserWarning, match="holds no memory"):
        other.load_state_dict(state)
    assert other.step == 10 and other._progress.calls == 40


@pytest.mark.parametrize("settings", [{"num_steps": 5}, {"accumulation_steps": 4}])
def test_an_empty_memory_is_of_its_settings_too(settings):
    state = trained(5, warmup_steps=100).state_dict()
    other = trained(**settings)
    before = frozen(other)
    with pytest.raises(CheckpointError, match=f"expected {[*settings][0]}="):
        other.load_state_dict(state)
    assert_untouched(other, before)


def test_a_warning_that_is_an_error_changes_nothing():
    state = trained(save_memory=False).state_dict()
    other = trained(3)
    before = frozen(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="holds no memory"):
            other.load_state_dict(state)
    assert_untouched(other, before)


# ------------------------------------------------------------- what lacks or is unknown


def test_a_part_of_a_memory_leaves_an_empty_one_and_is_told():
    state = trained().state_dict()
    del state["memory.lse"]
    other = trained(3, accumulation_steps=2)
    with pytest.warns(UserWarning, match="empty memory: the checkpoint has no lse"):
        missing, unexpected = other.load_state_dict(state, strict=False)
    assert missing == ["memory.lse"] and unexpected == []
    assert other.step == 7 and other.virtual_classes() is None
    assert other._progress.calls == 14


@pytest.mark.parametrize("name", ["foo", "memory.foo", "loss.foo"])
def test_what_is_unknown_is_told(name):
    state = {**trained().state_dict(), name: torch.zeros(1)}
    other = trained(3)
    before = frozen(other)
    with pytest.raises(CheckpointError, match="foo"):
        other.load_state_dict(state)
    assert_untouched(other, before)
    assert other.load_state_dict(state, strict=False) == ([], [name])
    parent = torch.nn.ModuleDict({"l": other})
    with pytest.raises(RuntimeError, match=f'Unexpected .*"l.{name}"'):
        parent.load_state_dict({f"l.{key}": value for key, value in state.items()})
