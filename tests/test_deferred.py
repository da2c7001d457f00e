"""Answers that come a step later, as from a GPU; here the device is made up."""

import copy

import pytest
import torch

from pml_memvir.training import batch as batches_
from pml_memvir.training import deferred
from pml_memvir.training.bad_batches import highest

from .catalog import norm_softmax, ragged, train


class Event:
    """Is done when `Event.now` has reached it."""

    now = 0
    waited = 0

    def __init__(self, at):
        self.at = at

    def query(self):
        return Event.now >= self.at

    def synchronize(self):
        Event.waited += 1


@pytest.fixture
def slow_device(monkeypatch):
    """Every answer takes as many steps as the fixture's value says."""
    Event.now = Event.waited = 0
    delay = [1]

    def put(self, step, host):
        self._pending.append((step, host, Event(step + delay[0])))

    monkeypatch.setattr(deferred.DeferredAnswers, "put", put)
    return delay


def steps(memvir, batches):
    for batch in batches:
        Event.now = memvir.step
        train(memvir, [batch])


def spoilt(batches, step):
    embeddings, labels = batches[step]
    embeddings = embeddings.clone()
    embeddings[0] = float("nan")
    return [*batches[:step], (embeddings, labels), *batches[step + 1 :]]


@pytest.mark.parametrize("step_gap, delay", [(0, 0), (0, 1), (1, 1), (1, 9), (2, 2)])
def test_bad_snapshots_are_never_met(step_gap, delay, slow_device, monkeypatch):
    slow_device[0] = delay
    memvir = norm_softmax(num_steps=3, step_gap=step_gap)
    batches = spoilt(ragged(0, 12), 4)
    with pytest.warns(UserWarning, match="Step 4 has NaN"):
        steps(memvir, batches)
    late = memvir.state_dict()
    monkeypatch.undo()
    expected = norm_softmax(num_steps=3, step_gap=step_gap)
    with pytest.warns(UserWarning, match="Step 4 has NaN"):
        train(expected, batches)
    assert torch.equal(
        late["memory.batch_sizes"], expected.state_dict()["memory.batch_sizes"]
    )
    more = ragged(1, 6)
    for a, b in zip(train(memvir, more), train(expected, more)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("accumulation_steps", [1, 3])
def test_the_end_of_a_step_waits_for_nothing(accumulation_steps, slow_device):
    slow_device[0] = 9
    memvir = norm_softmax(
        num_steps=2, step_gap=9, accumulation_steps=accumulation_steps
    )
    for batch in ragged(0, 8):
        steps(memvir, [batch])
        memvir.end_step()
    assert memvir.step == 8 and Event.waited == 0


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("bad_step", [4, 6])
@pytest.mark.parametrize("delay", [1, 9])
def test_class_weights_that_are_bad_for_a_step(
    bad_step, delay, slow_device, monkeypatch
):
    """Step 4 opens a stretch; what later steps of it leave behind goes with it."""
    slow_device[0] = delay

    def seen():
        memvir = norm_softmax(num_steps=2, step_gap=3, class_weights_every=4)
        good = memvir.W.detach().clone()
        for step, batch in enumerate(ragged(0, 14)):
            with torch.no_grad():
                memvir.W.copy_(torch.nan * good if step == bad_step else good)
            Event.now = memvir.step
            (loss,) = train(memvir, [batch])
            yield memvir.num_virtual_steps, float(loss.nan_to_num())
        memvir.state_dict()  # waits
        yield memvir.num_non_finite

    late = list(seen())
    monkeypatch.undo()
    assert late == list(seen()) and late[-1] == 1


def test_nobody_waits_for_answers_that_come_in_time(slow_device):
    memvir = norm_softmax(num_steps=3, step_gap=2)
    steps(memvir, ragged(0, 12))
    assert Event.waited == 0
    memvir.state_dict()
    assert Event.waited == 1 and not memvir._steps.bad._answers._pending


def test_labels_of_a_gpu_are_refused_a_step_later(slow_device):
    memvir = norm_softmax(num_steps=3, step_gap=1)
    steps(memvir, ragged(0, 3))
    x, y = ragged(1, 1)[0]
    answers = torch.tensor([3.0, 1.0, 1.0])  # labels miss their range by 3
    memvir._steps.bad._answers._pending.clear()
    memvir._steps.bad._answers.put(memvir.step - 1, answers)
    Event.now = memvir.step
    with pytest.raises(ValueError, match="labels of step 2 were not 0 to C-1"):
        memvir(x, y)
    memvir(x, y)
    assert memvir.step == 4


def test_a_copy_waits_for_what_is_on_its_way(slow_device):
    memvir = norm_softmax(num_steps=3, step_gap=1)
    batches = spoilt(ragged(0, 5), 4)
    steps(memvir, batches)
    with pytest.warns(UserWarning, match="Step 4 has NaN"):
        twin = copy.deepcopy(memvir)
    assert not twin._steps.bad._answers._pending and twin.virtual_classes().steps == (
        1,
        3,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_numbers_are_finite_and_nan_is_not(dtype):
    """What is asked of a batch: the square of no number is taken."""
    large = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
    bad = [
        large.clone().index_fill_(0, torch.tensor(1), x)
        for x in (torch.nan, -torch.inf)
    ]
    answers = highest(large, -large, *bad, torch.empty(0))
    assert answers.isfinite().tolist() == [True, True, False, False]


def test_labels_that_had_to_be_moved():
    labels, misfits = batches_.clamped(torch.tensor([-2, 0, 4, 5, 2**40]), 5)
    assert labels.tolist() == [0, 0, 4, 4, 4]
    assert misfits.tolist() == [-2, 0, 0, 1, 2**40]
