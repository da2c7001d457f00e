"""Whatever is raised at whatever line: the step has not happened, or it has, whole."""

import copy
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

import pml_memvir
from pml_memvir import MemVir

from .catalog import BY_NAME, NUM_CLASSES, ragged, train
from .reference import NaiveMemVir, relative_error
from .test_against_reference import compare

PACKAGE = str(Path(pml_memvir.__file__).parent)
STEPS_BEFORE, STEPS_AFTER = 7, 3


class Stop(BaseException):
    """As KeyboardInterrupt, but nobody else's."""


class InterruptAt:
    """Raises Stop at the n-th line of the package that is run; notes all before."""

    def __init__(self, line):
        self.left = line
        self.lines = []

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.lines.append((frame.f_code.co_filename, frame.f_lineno))
            self.left -= 1
            if self.left == 0:
                raise Stop
        return self

    def run(self, function):
        sys.settrace(self)
        try:
            return function()
        finally:
            sys.settrace(None)


def made(name, settings):
    case = BY_NAME[name]
    torch.manual_seed(0)
    return case, MemVir(case.loss(), 2, 1, **settings)


def lines_of(function):
    """When each line of the package is run for the first time."""
    counter = InterruptAt(0)
    counter.run(function)
    first = {}
    for number, line in enumerate(counter.lines, start=1):
        first.setdefault(line, number)
    return list(first.values())


def answers_of(naive, case, memvir, batches):
    """The oracle's, of a training that goes on from here; neither is changed."""
    naive, memvir, found = copy.deepcopy((naive, memvir, []))

    def noted(*arguments):
        found.append(naive(*arguments))
        return found[-1]

    compare(case, memvir, noted, batches)
    return found


@pytest.mark.parametrize(
    "name, settings",
    [
        ("NormSoftmax", {}),
        ("SoftTripleLoss", {"class_weights_every": 2}),
        ("ProxyAnchorLoss", {}),
        ("Softmax", {"snapshot_every": 2}),
        ("P2SGradLoss", {}),
        ("CosFaceLoss", {"algorithm": "concatenation", "class_weights_every": 2}),
    ],
    ids=str,
)
def test_every_line(name, settings):
    case, memvir = made(name, settings)
    every = settings.get("snapshot_every", 1)
    weights_every = settings.get("class_weights_every")
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1, 0, every, weights_every)
    before, at, after = ragged(0, STEPS_BEFORE), ragged(1, 1)[0], ragged(2, STEPS_AFTER)
    compare(case, memvir, naive, before)
    undisturbed = copy.deepcopy(memvir)
    lines = lines_of(lambda: undisturbed(*at))
    assert len(lines) > 80
    answers = {naive.step: answers_of(naive, case, memvir, after)}
    naive(*at, case.rows(case.weight(memvir.loss).detach().clone()))
    answers[naive.step] = answers_of(naive, case, undisturbed, after)
    happened = set()
    for line in lines:
        one = copy.deepcopy(memvir)
        with pytest.raises(Stop):
            InterruptAt(line).run(lambda: one(*at))
        happened.add(one.step)
        left = iter(answers[one.step])
        try:
            compare(case, one, lambda *_: next(left), after)
        except AssertionError as error:
            raise AssertionError(f"interrupted at line {line}") from error
    assert happened == set(answers) == {STEPS_BEFORE, STEPS_BEFORE + 1}


@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_an_error_of_the_device_is_no_step(algorithm, monkeypatch):
    """Such as running out of memory while NaN is looked for."""
    case, memvir = made("NormSoftmax", {"algorithm": algorithm})
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    for step, (x, y) in enumerate(ragged(0, 14)):
        if step == 8:
            with monkeypatch.context() as patch:
                patch.setattr(torch.Tensor, "aminmax", _raise)
                with pytest.raises(torch.cuda.OutOfMemoryError):
                    memvir(x, y)
            assert memvir.step == 8
        expected = naive(x, y, case.rows(memvir.W.detach().clone()))
        assert relative_error(memvir(x, y).detach(), expected.loss) <= 1e-9


def _raise(*_):
    raise torch.cuda.OutOfMemoryError("simulated")


@pytest.mark.filterwarnings("ignore:The class weights have not changed")
@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_threads_are_served_one_after_the_other(algorithm):
    _, memvir = made("NormSoftmax", {"algorithm": algorithm})
    errors = []

    def work(seed):
        try:
            for x, y in ragged(seed, 40):
                memvir(x.requires_grad_(), y).backward()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and memvir.step == 160
    assert "W" not in vars(memvir.loss)
    assert all(value.isfinite() for value in train(memvir, ragged(9, 3)))


@pytest.mark.parametrize(
    "num_steps, step_gap", [(10**6, 10**6), (2**70, 1), (1, 2**70)]
)
def test_a_memory_that_nobody_has(num_steps, step_gap):
    loss = BY_NAME["NormSoftmax"].loss()
    with pytest.raises(ValueError, match="ask for more than 1000000000 snapshots"):
        MemVir(loss, num_steps, step_gap)


def test_growing_copies_no_class_weights():
    """A batch that is larger needs room for what grows with it only."""
    _, memvir = made("NormSoftmax", {})
    batches = sorted(ragged(0, 12), key=lambda batch: len(batch[1]))
    train(memvir, batches[:3])
    before = memvir._memory.storage.contents.tensors
    train(memvir, batches[-1:])
    after = memvir._memory.storage.contents.tensors
    assert after["embeddings"].shape[2] > before["embeddings"].shape[2]
    assert after["class_weights"] is before["class_weights"]


def test_a_bad_batch_is_forgotten_wherever_it_is_interrupted():
    _, memvir = made("NormSoftmax", {})
    train(memvir, ragged(0, STEPS_BEFORE))
    (x, y), *_ = ragged(1, 1)
    x[0] = float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        undisturbed = copy.deepcopy(memvir)
        lines = lines_of(lambda: undisturbed(x, y))
        assert len(lines) > 80
        for line in lines:
            one = copy.deepcopy(memvir)
            with pytest.raises(Stop):
                InterruptAt(line).run(lambda: one(x, y))
            values = train(one, ragged(2, 5))
            assert all(value.isfinite() for value in values), f"line {line}"
