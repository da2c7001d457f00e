"""Training that is killed and resumed is the training that was not, to the last bit."""

import pickle
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy
import pytest
import torch
from pytorch_metric_learning import samplers, trainers
from pytorch_metric_learning.losses import ContrastiveLoss, CrossBatchMemory
from pytorch_metric_learning.utils import common_functions
from pytorch_metric_learning.utils.logging_presets import HookContainer
from torch.optim.lr_scheduler import ConstantLR, MultiStepLR, SequentialLR

from pml_memvir import MemVir, losses
from pml_memvir.hook_container import SafeHookContainer
from pml_memvir.pml import hook_container as hc
from pml_memvir.pml.left_out import not_plain, plain

from .forks import Fork
from .scripts.train_and_save import Training, main

NUM_STEPS = 3 * 3 * 3  # 3 N (M + 1)


def equal(a, b):
    """Whether two states agree in every bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_killed_at_random_and_resumed(tmp_path, one_thread):
    straight = Training()
    for _ in range(NUM_STEPS):
        straight.step()
    assert straight.loss.num_virtual_steps == 3

    checkpoint, kills = tmp_path / "checkpoint.pth", 0
    generator = random.Random(0)
    for steps_before_kill in (4, 9, 6):
        written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        fork = Fork(tmp_path, main, tmp_path, NUM_STEPS, 0.01)
        seen = 0
        while fork.process.is_alive() and seen < steps_before_kill:
            time.sleep(0.002)
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != written:
                written, seen = checkpoint.stat().st_mtime_ns, seen + 1
        time.sleep(generator.uniform(0, 0.02))  # in the middle of anything
        fork.kill()
        kills += fork.wait() == -signal.SIGKILL
    assert kills == 3
    main(tmp_path, NUM_STEPS, 0)
    resumed = torch.load(checkpoint, weights_only=True)
    assert resumed["values"] == straight.values
    expected = straight.state()
    for state in (resumed, expected):
        state["random"] = state["random"]["torch"]  # the others are pytest's here
    assert equal(resumed, expected)


# ------------------------------------------------------------ PML's trainer and hooks


def seed_all(seed):
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


class Run:
    """PML's trainer with a sampler, dropout, a schedule, and MemVir."""

    def __init__(self, container, folder):
        seed_all(0)
        self.container, self.folder = container(None), str(folder)
        dataset = torch.utils.data.TensorDataset(
            torch.randn(60, 10), torch.arange(60) % 5
        )
        trunk = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.Dropout(0.2))
        self.loss = MemVir(losses.NormSoftmax(5, 8), num_steps=2, step_gap=1)
        optimizers = {
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=0.01),
            "metric_loss_optimizer": torch.optim.Adam(self.loss.parameters(), lr=0.1),
        }
        scheduler = torch.optim.lr_scheduler.StepLR(optimizers["trunk_optimizer"], 1)
        self.values = []
        self.trainer = trainers.MetricLossOnly(
            models={"trunk": trunk},
            optimizers=optimizers,
            lr_schedulers={"trunk_scheduler_by_epoch": scheduler},
            batch_size=10,
            loss_funcs={"metric_loss": self.loss},
            dataset=dataset,
            sampler=samplers.MPerClassSampler(
                torch.arange(60) % 5, 2, 10, length_before_new_iter=60
            ),
            dataloader_num_workers=0,
            end_of_iteration_hook=self.note,
            end_of_epoch_hook=self.save,
        )

    def note(self, trainer):
        self.values.append(trainer.losses["metric_loss"].item())

    def save(self, trainer):
        epoch = trainer.epoch
        self.container.save_models(trainer, self.folder, epoch, epoch - 1)

    def train(self, last_epoch, first_epoch=1):
        self.trainer.train(first_epoch, last_epoch)
        return self

    def resume(self):
        return self.container.load_latest_saved_models(self.trainer, self.folder)


def test_pml_hooks_round_trip_the_memory(tmp_path):
    before = Run(HookContainer, tmp_path).train(2)
    after = Run(HookContainer, tmp_path)
    assert after.resume() == 3
    assert equal(after.loss.state_dict(), before.loss.state_dict())
    assert after.loss.step == 12 and after.loss.num_virtual_steps == 2


def as_it_is(trainer):
    pass


def with_triplets(trainer):
    """A sampler that shuffles its array in place."""
    trainer.sampler = samplers.FixedSetOfTriplets(torch.arange(60) % 5, 20)


def with_batches_of_a_sampler(trainer):
    sampler = samplers.MPerClassSampler(torch.arange(60) % 5, 2, 10, 60)
    trainer.sampler = torch.utils.data.BatchSampler(sampler, 10, False)


class Halves(torch.utils.data.BatchSampler):
    """Of one's own: PyTorch's constructor is not called."""

    def __init__(self):
        pass

    def __iter__(self):
        return iter(torch.randperm(60).view(6, 10).tolist())

    def __len__(self):
        return 6


def with_a_batch_sampler_of_ones_own(trainer):
    trainer.sampler = Halves()


def with_queue(trainer):
    """A loss whose cursor is not in its state dict; 25 is no multiple of 10."""
    trainer.loss_funcs["metric_loss"] = CrossBatchMemory(ContrastiveLoss(), 8, 25)


def with_milestones(trainer):
    """A scheduler with a Counter in its state dict, here with a number twice."""
    trainer.lr_schedulers["trunk_scheduler_by_epoch"] = MultiStepLR(
        trainer.optimizers["trunk_optimizer"], [1, 3, 3]
    )


def with_schedulers_in_one(trainer):
    """A Counter in a list, which is asked for its elements after resuming."""
    optimizer = trainer.optimizers["trunk_optimizer"]
    parts = [ConstantLR(optimizer, 0.5, 2), MultiStepLR(optimizer, [1, 2, 2])]
    trainer.lr_schedulers["trunk_scheduler_by_epoch"] = SequentialLR(
        optimizer, parts, milestones=[3]
    )


def with_names_as_labels(trainer):
    """PML's sampler takes what a dict takes; it only ever sees the indices."""
    labels = [f"class {i % 5}" for i in range(60)]
    trainer.sampler = samplers.MPerClassSampler(labels, 2, 10, 60)


def with_a_rate_of_numpy(trainer):
    for group in trainer.optimizers["trunk_optimizer"].param_groups:
        group["lr"] = numpy.logspace(-2, -1, 3)[0]


def with_a_random_state(trainer):
    """As PML's documentation has it for reproducible samplers."""
    common_functions.NUMPY_RANDOM = numpy.random.RandomState(42)


def with_a_generator(trainer):
    common_functions.NUMPY_RANDOM = numpy.random.default_rng(42)


def with_a_mersenne_twister(trainer):
    twister = numpy.random.MT19937(42)
    common_functions.NUMPY_RANDOM = numpy.random.Generator(twister)


@pytest.fixture
def pmls_random(monkeypatch):
    """Whatever is done to it is undone."""
    monkeypatch.setattr(common_functions, "NUMPY_RANDOM", numpy.random)


@pytest.mark.parametrize(
    "change",
    [
        as_it_is,
        with_triplets,
        with_queue,
        with_milestones,
        with_schedulers_in_one,
        with_names_as_labels,
        with_batches_of_a_sampler,
        with_a_batch_sampler_of_ones_own,
        with_a_rate_of_numpy,
        with_a_random_state,
        with_a_generator,
        with_a_mersenne_twister,
    ],
)
def test_safe_hooks_resume_to_the_last_bit(tmp_path, change, pmls_random):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def new(name):
        run = Run(SafeHookContainer, tmp_path / name)
        change(run.trainer)
        return run

    straight = new("a").train(4)
    new("b").train(2)
    resumed = new("b")
    seed_all(99)
    epoch = resumed.resume()
    assert epoch == 3
    resumed.train(4, epoch)
    assert resumed.values == straight.values[len(straight.values) // 2 :]
    for name in ("trunk_4", "metric_loss_4", "trunk_optimizer_4", "rng_4"):
        a, b = (
            torch.load(tmp_path / x / f"{name}.pth", weights_only=True) for x in "ab"
        )
        assert equal(a, b), name


def test_a_plain_state_becomes_what_it_was(tmp_path):
    state = {
        "parts": [Counter([1, 2, 2]), (numpy.arange(3), numpy.float64(0.5))],
        "rate": numpy.float32(2),
    }
    hc.write_atomically(plain(state), tmp_path / "x.pth")
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert loaded == {"parts": [{1: 1, 2: 2}, ([0, 1, 2], 0.5)], "rate": 2.0}
    counter, (array, number) = not_plain(state, loaded)["parts"]
    assert counter.elements and array.dtype == numpy.arange(3).dtype
    assert array.tolist() == [0, 1, 2] and number == 0.5


def test_only_the_latest_checkpoint_stays(tmp_path):
    run = Run(SafeHookContainer, tmp_path).train(3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "embedder_3.pth",
        "metric_loss_3.pth",
        "metric_loss_optimizer_3.pth",
        "rng_3.pth",
        "trunk_3.pth",
        "trunk_optimizer_3.pth",
        "trunk_scheduler_by_epoch_3.pth",
    ]
    run.container.do_save_models = False
    run.train(4, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert Run(SafeHookContainer, tmp_path / "nothing").resume() == 1


@pytest.mark.parametrize("files_written", range(8))
def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path, monkeypatch, files_written
):
    """Killed in file after file; the last time, when all files are written."""
    run = Run(SafeHookContainer, tmp_path).train(2)
    expected = run.loss.state_dict()
    expected = {k: _clone(v) for k, v in expected.items()}
    save, written = torch.save, []

    class Killed(BaseException):
        pass

    def die(state, file):
        if len(written) == files_written:
            file.write(b"half a file")
            raise Killed
        written.append(file.name)
        save(state, file)

    monkeypatch.setattr(torch, "save", die)
    if files_written < 7:
        with pytest.raises(Killed):
            run.train(3, 3)
    else:
        run.train(3, 3)
        expected = run.loss.state_dict()
    monkeypatch.undo()
    other = Run(SafeHookContainer, tmp_path)
    assert other.resume() == (3 if files_written < 7 else 4)
    assert equal(other.loss.state_dict(), expected)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def _clone(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _clone(v) for k, v in value.items()}
    return value


def test_a_best_checkpoint_is_found_as_such(tmp_path):
    run = Run(SafeHookContainer, tmp_path).train(2)
    run.container.save_models(run.trainer, run.folder, "best2")
    run.train(3, 3)
    other = Run(SafeHookContainer, tmp_path)
    assert other.resume() == 4 and other.loss.step == 18
    container = other.container
    assert container.load_latest_saved_models(other.trainer, other.folder, best=True)
    assert other.loss.step == 12


def test_files_of_pmls_container_load_with_a_warning(tmp_path):
    Run(HookContainer, tmp_path).train(2)
    run = Run(SafeHookContainer, tmp_path)
    with pytest.warns(UserWarning, match="rng_2.pth is missing"):
        assert run.resume() == 3
    assert run.loss.step == 12


class Intruder:
    def __reduce__(self):
        return Path.touch, (Path("intruder"),)


def test_files_are_not_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(SafeHookContainer, tmp_path).train(2)
    torch.save({"trunk": Intruder()}, tmp_path / "trunk_2.pth")
    with pytest.raises(pickle.UnpicklingError):
        run.resume()
    assert not Path("intruder").exists()


def test_a_missing_file_is_an_error_before_anything_is_loaded(tmp_path):
    Run(SafeHookContainer, tmp_path).train(2)
    (tmp_path / "trunk_optimizer_2.pth").unlink()
    run = Run(SafeHookContainer, tmp_path)
    with pytest.raises(FileNotFoundError, match="trunk_optimizer_2.pth"):
        run.resume()
    assert run.loss.step == 0


def test_random_states_of_all_generators(tmp_path):
    hc.write_atomically(hc.random_states(), tmp_path / "rng.pth")
    first = (random.random(), numpy.random.rand(), torch.rand(3))
    random.gauss(0, 1), numpy.random.randn(), torch.randn(1)
    hc.set_random_states(torch.load(tmp_path / "rng.pth", weights_only=True))
    assert equal(first, (random.random(), numpy.random.rand(), torch.rand(3)))
