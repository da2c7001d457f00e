"""A loss of one's own is tried once, for the rules of `register_loss`."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy
import torch
from pytorch_metric_learning.utils import common_functions as c_f

from .specs import LossSpec, is_built_in, spec_of
from .virtual_classes import concatenation

# Above it, a copy and its growth would make a constructor slow: not tried then.
MOST_NUMBERS = 2**25


def try_once(loss: torch.nn.Module) -> None:
    """Raise ValueError for a loss that would fail as soon as there are virtual classes.

    A copy of it is called with four made-up embeddings, and with four virtual ones
    behind them: on the CPU, where a label out of range is no more than an error. The
    loss itself, and all random states, stay as they are. What cannot be tried is let
    pass (no copy can be made, or the loss does not take such rows): its error comes
    with the first step.
    """
    if is_built_in(loss):
        return
    name, spec = type(loss).__name__, spec_of(loss)
    try:
        inspect.signature(loss.forward).bind(None, None, None)
    except TypeError as mismatch:
        raise ValueError(
            f"{name} must be callable as loss(embeddings, labels, indices_tuple), as "
            f"register_loss says: {mismatch}"
        ) from None
    weight = spec.get(loss)
    if weight.is_meta or weight.numel() > MOST_NUMBERS:
        return
    with _all_as_before():
        try:
            trial = _copy_of(loss)
        except Exception:  # not every loss can be copied; it is then tried by use
            return
        error = _error(trial, spec, with_virtual=True)
        if error is None:
            return
        other = replace(spec, class_dim=1 - spec.class_dim)
        if _error(trial, other, with_virtual=True) is None:
            raise ValueError(
                f"{name}.{spec.parameter}, of shape {tuple(weight.shape)}, has its "
                f"classes in dimension {other.class_dim}: register_loss was told "
                f"class_dim={spec.class_dim}"
            )
        classes = spec.num_classes(loss)
        if _error(trial, spec, with_virtual=False) is None:
            raise ValueError(
                f"{name} breaks a rule of register_loss: with virtual classes, here "
                f"{2 * classes} classes instead of {classes}, it raises "
                f"{type(error).__name__}: {error}. {_rule(loss, spec)}"
            )
        if _error(trial, spec, with_virtual=False, classes=1) is None:
            raise ValueError(
                f"{name} takes labels of 0, but not of {classes - 1}, the last of the "
                f"{classes} classes that {spec.parameter} of shape "
                f"{tuple(weight.shape)} has with class_dim={spec.class_dim} and "
                f"centers_per_class={spec.centers_per_class!r} of register_loss: it "
                f"raises {type(error).__name__}: {error}"
            )


def _error(
    trial: torch.nn.Module,
    spec: LossSpec,
    with_virtual: bool,
    classes: int | None = None,
) -> Exception | None:
    """What a call raises, with labels of the first and the last of the classes."""
    last = (classes or spec.num_classes(trial)) - 1
    labels = torch.tensor([0, 0, last, last])
    generator = torch.Generator().manual_seed(0)
    shape = (2, len(labels), spec.embedding_size(trial))
    vectors = torch.nn.functional.normalize(
        torch.randn(shape, generator=generator), dim=2
    )
    actual, virtual = vectors.to(spec.get(trial).dtype)
    actual.requires_grad_()
    try:
        spec.check(trial)
        if not with_virtual:
            trial(actual, labels, None)
            return None
        weights = spec.class_weights(trial).detach().clone()
        shifted = labels + spec.num_classes(trial)
        concatenation(trial, spec, actual, labels, None, weights, virtual, shifted)
    except Exception as error:
        return error
    return None


def _rule(loss: torch.nn.Module, spec: LossSpec) -> str:
    """Which rule it may be, by what of the loss counts as many as its classes do."""
    parameter, weight = spec.parameter, spec.get(loss)
    classes, tensors, numbers = spec.num_classes(loss), [], []
    counts = {classes, classes * spec.num_centers(loss)}
    owner = spec.owner(loss)
    for path, module in loss.named_modules():
        parts = {**vars(module), **module._parameters, **module._buffers}
        for name, value in parts.items():
            full = f"{path}.{name}" if path else name
            if isinstance(value, torch.Tensor) and value is not weight:
                if counts & set(value.shape):
                    tensors.append(f"{full} {tuple(value.shape)}")
            elif type(value) is int and value == classes:
                if name != "num_classes" or module not in (loss, owner):
                    numbers.append(full)
    if tensors:
        return (
            f"It may have nothing but {parameter} for each class, and has "
            f"{', '.join(tensors)}"
        )
    told = f", not from {', '.join(numbers)}" if numbers else ""
    return (
        f"It must take the number of classes from {parameter} as it is in the call, or "
        f"from an attribute num_classes{told}, and batches of any size"
    )


def _copy_of(loss: torch.nn.Module) -> torch.nn.Module:
    """A copy on the CPU to which nobody listens."""
    trial = copy.deepcopy(loss).cpu().train()
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in trial.parameters()):
        trial.float()  # not all that a GPU does in these can be done here
    for module in trial.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        module.__dict__["_compiled_call_impl"] = None
    return trial


@contextmanager
def _all_as_before() -> Iterator[None]:
    """Random states stay; tensors are made on the CPU, gradients are on."""
    pythons, numpys = random.getstate(), numpy.random.get_state()
    pmls = c_f.NUMPY_RANDOM
    c_f.NUMPY_RANDOM = numpy.random.RandomState(0)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            with torch.inference_mode(False), torch.enable_grad():
                yield
    finally:
        random.setstate(pythons)
        numpy.random.set_state(numpys)
        c_f.NUMPY_RANDOM = pmls
