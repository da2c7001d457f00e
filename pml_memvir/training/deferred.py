"""Numbers that a device gives a step later, so that nobody waits for them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class _Pending:
    step: int
    answers: torch.Tensor  # on the host
    done: Any  # the torch.cuda.Event after which they are there, or None

    def is_there(self) -> bool:
        return self.done is None or bool(self.done.query())

    def wait(self) -> tuple[float, ...]:
        if not self.is_there():
            self.done.synchronize()
        return tuple(self.answers.tolist())


class DeferredAnswers:
    """Some numbers by step, computed on a device.

    Asking a CUDA device makes the host wait for all that was queued before. Here the
    answers are copied to pinned memory, and read at a later step when they are there.
    """

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()

    def put(self, step: int, together: torch.Tensor) -> None:
        """Answers of step `step`, a tensor (n,) on any device; once a step."""
        if self._pending and self._pending[-1].step == step:
            return
        if together.device.type != "cuda":
            self._pending.append(_Pending(step, together, None))
            return
        host = torch.empty_like(together, device="cpu", pin_memory=True)
        host.copy_(together, non_blocking=True)
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(together.device))
        self._pending.append(_Pending(step, host, done))

    def first(self, needed_up_to: int) -> tuple[int, tuple[float, ...]] | None:
        """Step and answers of the oldest; waits only for steps <= `needed_up_to`."""
        oldest = self._pending[0] if self._pending else None
        if oldest is None or (oldest.step > needed_up_to and not oldest.is_there()):
            return None
        return oldest.step, oldest.wait()

    def pop(self) -> None:
        """Leave out the oldest, which has been acted on."""
        self._pending.popleft()
