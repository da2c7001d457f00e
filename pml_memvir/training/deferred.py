"""Numbers that a device gives a step later, so that nobody waits for them."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch


class DeferredAnswers:
    """Some numbers by step, computed on a device.

    Asking a CUDA device makes the host wait for all that was queued before. Here the
    answers are copied to pinned memory, and read at a later step when they are there.
    """

    def __init__(self) -> None:
        # Step, answers on the host, and torch.cuda.Event after which they are there.
        self._pending: deque[tuple[int, torch.Tensor, Any]] = deque()

    def put(self, step: int, together: torch.Tensor) -> None:
        """Answers of step `step`, a tensor (n,) on any device; once a step."""
        if self._pending and self._pending[-1][0] == step:
            return
        host, done = together, None
        if together.device.type == "cuda":
            host = torch.empty_like(together, device="cpu", pin_memory=True)
            host.copy_(together, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(together.device))
        self._pending.append((step, host, done))

    def first(self, needed_up_to: int) -> tuple[int, tuple[float, ...]] | None:
        """Step and answers of the oldest; waits only for steps <= `needed_up_to`."""
        if not self._pending:
            return None
        step, answers, done = self._pending[0]
        if done is not None and not done.query():
            if step > needed_up_to:
                return None
            done.synchronize()
        return step, tuple(answers.tolist())

    def pop(self) -> None:
        """Leave out the oldest, which has been acted on."""
        self._pending.popleft()
