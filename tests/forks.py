"""Processes that need not import anything: each is forked from one that has done so."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

# As far as they are installed. The first fork in a process has them imported.
IMPORTS = [__name__, "torch._dynamo", "pml_memvir", "benchmarks.datasets.glyphs"]
IMPORTS += [f"pytorch_metric_learning.{name}" for name in ("testers", "trainers")]
IMPORTS += ["torch.utils.tensorboard", "lightning", "accelerate"]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(IMPORTS)
# Whoever starts a process reads how the others ended, too; and of two threads that read
# it at once, one finds nothing and takes it for 255.
lock = threading.Lock()


class Fork:
    """A process that calls a function with one thread, and what it prints."""

    def __init__(
        self,
        folder: Path,
        function: Callable[..., object],
        *arguments: Any,
        env: Mapping[str, str] | None = None,
    ) -> None:
        descriptor, name = tempfile.mkstemp(".txt", dir=folder)
        os.close(descriptor)
        self.file = Path(name)
        self.process = context.Process(
            target=_call, args=(function, arguments, dict(env or {}), name)
        )
        with lock:
            self.process.start()

    def wait(self, timeout: float = 600) -> int | None:
        """How it ended, or None if it has not."""
        connection.wait([self.process.sentinel], timeout=timeout)
        with lock:
            return self.process.exitcode

    def printed(self) -> str:
        """All of it, at the end; which must be a good one."""
        assert self.wait() == 0, self.file.read_text()[-3000:]
        return self.file.read_text()

    def kill(self) -> None:
        with lock:
            self.process.kill()


def forked(
    world_size: int, folder: Path, function: Callable[..., object], *arguments: Any
) -> list[Fork]:
    """A process a rank, with the environment that torchrun gives it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    env |= {"WORLD_SIZE": str(world_size)}
    return [
        Fork(folder, function, *arguments, env={**env, "RANK": str(rank)})
        for rank in range(world_size)
    ]


def all_printed(forks: list[Fork]) -> str:
    """None is left when this returns, or raises."""
    try:
        return "".join(fork.printed() for fork in forks)
    finally:
        for fork in forks:
            fork.kill()


def _call(
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    env: dict[str, str],
    printed: str,
) -> None:
    os.environ.update(env)
    torch.set_num_threads(1)
    with open(printed, "w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    function(*arguments)
