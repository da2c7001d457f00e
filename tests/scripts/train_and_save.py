"""A training that saves after each step, to be killed and run again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from pml_memvir import MemVir, losses
from pml_memvir.hook_container import (
    random_states,
    set_random_states,
    write_atomically,
)


class Training:
    """A small network with dropout, MemVir and Adam; batches are drawn at random."""

    def __init__(self, num_steps: int = 3, step_gap: int = 2) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(10, 8), torch.nn.Dropout(0.2)
        )
        self.loss = MemVir(losses.NormSoftmax(5, 8), num_steps, step_gap, 2)
        parameters = [*self.network.parameters(), *self.loss.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=0.01)
        self.values: list[float] = []

    def step(self) -> None:
        size = int(torch.randint(3, 7, ()))
        images, labels = torch.randn(size, 10), torch.randint(5, (size,))
        self.optimizer.zero_grad()
        embeddings = torch.nn.functional.normalize(self.network(images))
        value = self.loss(embeddings, labels)
        value.backward()
        self.optimizer.step()
        self.values.append(value.item())

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "values": self.values,
            "random": random_states(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.values = state["values"]
        set_random_states(state["random"])


def main(folder: Path, num_steps: int, seconds_a_step: float) -> None:
    checkpoint, training = folder / "checkpoint.pth", Training()
    if checkpoint.exists():
        training.load(torch.load(checkpoint, weights_only=True))
    while len(training.values) < num_steps:
        training.step()
        write_atomically(training.state(), checkpoint)
        time.sleep(seconds_a_step)
