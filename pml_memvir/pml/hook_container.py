"""PML's HookContainer, with checkpoints that survive a kill at any moment."""

from __future__ import annotations

import os
import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
from pytorch_metric_learning.utils import common_functions as c_f
from pytorch_metric_learning.utils.logging_presets import HookContainer

from .left_out import left_out, not_plain, plain, put_back

RNG = "rng"


class SafeHookContainer(HookContainer):
    """Writes a checkpoint whole or not at all, and the random states with it.

    PML's own container writes each file in place and keeps no random states: a process
    that is killed while it saves leaves a damaged checkpoint, and one that resumes
    shuffles and augments differently. Here, each file is written under a temporary name
    and renamed. `trunk_*.pth`, by which a checkpoint is found, is renamed last, and the
    previous checkpoint is deleted after that. `rng_*.pth` has the states of Python's,
    NumPy's and PyTorch's generators, on the CPU and on all GPUs, of the one that PML
    draws from (`common_functions.NUMPY_RANDOM`) if that is another, of PML's samplers
    MPerClassSampler and FixedSetOfTriplets, and where CrossBatchMemory is in its queue;
    other samplers must draw from those generators only. An epoch must be a pass over
    the loader: with another `iterations_per_epoch` PML's trainers go on in mid-pass,
    and a resumed one begins a new pass.

    A file that cannot be written raises OSError, where PML logs a warning. Files are
    read with `weights_only=True`. Arguments, names of files and the rest are PML's.
    """

    def save_models(
        self,
        trainer: Any,
        model_folder: str,
        curr_suffix: Any,
        prev_suffix: Any = None,
    ) -> None:
        """Save all models, optimizers, losses and schedulers, and the random states.

        Args:
            curr_suffix: ends the names of the new files: an epoch, or "best" and one.
            prev_suffix: of files to delete when the new ones are complete.

        Raises:
            OSError: a file cannot be written; the previous checkpoint is untouched.
        """
        if not self.do_save_models:
            return
        things = self._things(trainer)
        for name in self._order(things):
            if name == RNG:
                state = {**random_states(), **left_out(trainer)}
            else:
                state = plain(things[name].state_dict())
            write_atomically(state, _path(model_folder, name, curr_suffix))
        if prev_suffix is not None and prev_suffix != curr_suffix:
            for name in reversed(self._order(things)):
                _path(model_folder, name, prev_suffix).unlink(missing_ok=True)

    def load_latest_saved_models(
        self, trainer: Any, model_folder: str, device: Any = None, best: bool = False
    ) -> int:
        """Load the latest checkpoint, random states included.

        Args:
            device: not needed: everything goes to the device that it is on now.

        Returns:
            the epoch to go on with; 1 if there is no checkpoint.

        Raises:
            FileNotFoundError: a file of the checkpoint is missing; nothing is loaded.
        """
        epoch = _latest_epoch(model_folder, best)
        if epoch is None:
            return 1
        suffix = f"best{epoch}" if best else str(epoch)
        things = self._things(trainer)
        states = {}
        for name in self._order(things):
            path = _path(model_folder, name, suffix)
            if name == RNG and not path.exists():
                warnings.warn(
                    f"{path} is missing: random numbers are not those of the run that "
                    "is resumed (PML's own HookContainer does not save them)",
                    stacklevel=2,
                )
            else:
                states[name] = torch.load(path, map_location="cpu", weights_only=True)
        for name, state in states.items():
            if name != RNG:
                thing = things[name]
                if not isinstance(thing, torch.nn.Module):
                    state = not_plain(thing.state_dict(), state)
                thing.load_state_dict(state)
        if RNG in states:
            set_random_states(states[RNG])
            put_back(trainer, states[RNG])
        return epoch + 1

    def _things(self, trainer: Any) -> dict[str, Any]:
        """What is saved, by the name of its file."""
        return {
            name: _unwrapped(thing)
            for attribute in self.saveable_trainer_objects
            for name, thing in getattr(trainer, attribute, {}).items()
        }

    @staticmethod
    def _order(things: dict[str, Any]) -> list[str]:
        """Files in the order in which they are written: the trunk last."""
        return [*(name for name in things if name != "trunk"), RNG, "trunk"]


def _path(folder: str, name: str, suffix: Any) -> Path:
    return Path(c_f.modelpath_creator(folder, name, suffix))


def _latest_epoch(folder: str, best: bool) -> int | None:
    pattern = re.compile(r"trunk_best(\d+)\.pth" if best else r"trunk_(\d+)\.pth")
    found = (pattern.fullmatch(path.name) for path in Path(folder).glob("trunk_*"))
    return max((int(match[1]) for match in found if match), default=None)


def write_atomically(state: Any, path: Path) -> None:
    """`torch.save` to a temporary name, which is renamed when all is on the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def random_states() -> dict[str, Any]:
    """The states of all generators, as tensors and numbers in plain containers."""
    state: Any = numpy.random.get_state()
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(keys.astype("int64")), *rest],
        "pml": plain(_pml_state()),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set all generators to what `random_states` gave.

    Those of GPUs that are not there are left out, and PML's, where it is NumPy's again
    or of another kind.
    """
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    numpy.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    pml, mine = states.get("pml"), _pml_state()
    if pml and mine and pml["bit_generator"] == mine["bit_generator"]:
        if isinstance(c_f.NUMPY_RANDOM, numpy.random.RandomState):
            c_f.NUMPY_RANDOM.set_state(pml)
        else:
            c_f.NUMPY_RANDOM.bit_generator.state = pml
    torch.set_rng_state(states["torch"])
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)


def _pml_state() -> dict[str, Any] | None:
    """Of the generator that PML draws from; None if it is NumPy's global one."""
    generator = c_f.NUMPY_RANDOM
    if isinstance(generator, numpy.random.RandomState):
        return generator.get_state(legacy=False)
    if isinstance(generator, numpy.random.Generator):
        return dict(generator.bit_generator.state)
    return None


def _unwrapped(thing: Any) -> Any:
    wrappers = (
        torch.nn.DataParallel,
        torch.nn.parallel.DistributedDataParallel,
    )
    return thing.module if isinstance(thing, wrappers) else thing
