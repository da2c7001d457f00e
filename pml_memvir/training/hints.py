"""Said once: where MemVir seems not to do what its user wants of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ..core.warn import warn

# So many steps in a row without any change of the class weights are no chance.
UNCHANGED_STEPS = 100

IN_EVALUATION = (
    "MemVir is called in evaluation mode, with gradients on and embeddings that "
    "require them: it is its inner loss there, and remembers nothing. To train with "
    "MemVir, call .train() on it. To keep the class weights as they are, PML's "
    "freeze_these is no way, as it sets evaluation mode: leave MemVir in training mode "
    "and call .requires_grad_(False) on it. To validate, turn gradients off "
    "(torch.no_grad)."
)
UNCHANGED = (
    f"the class weights have not changed in {UNCHANGED_STEPS} training steps: old "
    "copies of a class teach nothing then. Are MemVir's parameters in an optimizer? "
    "(If they are to stay as they are, call .requires_grad_(False) on it.)"
)
OUT_OF_STEP = (
    "the class weights have changed after {} of {} micro-batches (accumulation_steps), "
    "and not where MemVir's step ended: steps of the optimizer and MemVir's are not "
    "the same any more. Where an epoch ends with fewer micro-batches, call "
    "MemVir.end_step() after optimizer.step()."
)


class Hints:
    """Watches the mode and the class weights of one wrapper.

    It goes by counters of the host, and asks a device for numbers at most once. Nothing
    of it is in checkpoints; a copy begins anew, but knows what has been said.

    Args:
        said: what is not to be said again.
    """

    def __init__(self, said: Iterable[str] = ()) -> None:
        self._said = set(said)
        self._steps = 0
        self._is_unchanged = True  # as far as is known
        self._first: tuple[int, torch.Tensor] | None = None
        self._last: tuple[int, bool] | None = None
        self._changed_after = 0  # micro-batches of a step

    def in_evaluation(self, embeddings: torch.Tensor) -> None:
        """Before a call that is no training call."""
        if torch.is_grad_enabled() and embeddings.requires_grad:
            self._say(IN_EVALUATION)

    def before_call(
        self, weight: torch.nn.Parameter, micro_batch: int, accumulation_steps: int
    ) -> None:
        """Before a training call, the j-th of its step."""
        if not weight.requires_grad:
            return
        if accumulation_steps > 1:
            self._watch_steps(weight, micro_batch, accumulation_steps)
        if self._is_unchanged and micro_batch == 0:
            self._watch_changes(weight)

    def _watch_steps(
        self, weight: torch.nn.Parameter, micro_batch: int, accumulation_steps: int
    ) -> None:
        """Are the class weights changed within steps, and not between two?

        (SAM, with a step for its two passes, changes them at both places.) An optimizer
        that leaves the counter alone, a fused one, is known by cleared gradients.
        """
        before, now = self._last, (_version(weight), weight.grad is not None)
        self._last = now
        if before is None:
            return
        if now[0] != before[0] or (before[1] and not now[1]):
            self._changed_after = micro_batch
        elif micro_batch == 0 and self._changed_after:
            self._say(OUT_OF_STEP, self._changed_after, accumulation_steps)

    def _watch_changes(self, weight: torch.nn.Parameter) -> None:
        """Has anything changed the class weights since the first step?"""
        self._steps += 1
        if self._steps == 1:
            return  # some losses bring their class weights to unit length in it
        if self._first is None:
            self._first = _version(weight), _sample(weight)
        version, sample = self._first
        has_changed = _version(weight) != version
        if has_changed or self._steps > UNCHANGED_STEPS:
            # Not every optimizer moves the counter: some write to `.data`.
            has_changed = has_changed or not _are_close(_sample(weight), sample)
            self._is_unchanged, self._first = False, None
            if not has_changed:
                self._say(UNCHANGED)

    def _say(self, text: str, *numbers: int) -> None:
        if text not in self._said:
            self._said.add(text)  # first: a warning may be made an error
            text = text.format(*numbers)
            warn(f"{text[0].upper()}{text[1:]} Said once.")

    def __reduce__(self) -> tuple[Any, ...]:
        return Hints, (frozenset(self._said),)


def _version(tensor: torch.Tensor) -> int:
    """How often it has been written to in place; known without its device."""
    return 0 if tensor.is_inference() else tensor._version


def _sample(weight: torch.Tensor) -> torch.Tensor:
    """A copy of some numbers of all over it."""
    a, b = (max(1, length // 16) for length in weight.shape)
    return weight.detach()[::a, ::b].to(torch.float32, copy=True)


def _are_close(now: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether they differ by rounding at most; waits for the device."""
    return now.shape == before.shape and torch.allclose(
        now, before.to(now.device), rtol=1e-5, atol=0, equal_nan=True
    )
