"""`python -m benchmarks share`: how much of a whole training step the loss takes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.table import Table
from tqdm import tqdm

from pml_memvir import MemVir

from .arms import Setting, batches, make_loss, timed

CARS196 = Setting("NormSoftmax", 45, 10, 128, 98, 512)
SOP = Setting("NormSoftmax", 45, 10, 128, 11318, 512)


@dataclass(frozen=True)
class Share:
    """Medians, in seconds: a step of network, loss and optimiser, and of the loss."""

    setting: Setting
    whole: float
    plain_loss: float
    memvir: float
    memory_nbytes: int

    @property
    def of_whole(self) -> float:
        """MemVir's forward and backward, of the whole step."""
        return self.memvir / self.whole

    @property
    def added(self) -> float:
        """What MemVir adds to the plain loss, of the whole step."""
        return (self.memvir - self.plain_loss) / self.whole


def measure_share(
    setting: Setting,
    network: torch.nn.Module,
    pixels: int,
    repeats: int,
    device: str,
    memory_dtype: torch.dtype | None = None,
) -> Share:
    """Train `network` (images to embeddings) on noise, with MemVir's memory full.

    The memory is filled by embeddings from `batches`, as a network is not needed for
    that; then whole steps are timed, and within each the loss's part of it.
    """
    torch.manual_seed(0)
    network = network.to(device).train()
    plain = make_loss(setting, setting.C).to(device)
    loss = make_loss(setting, setting.C).to(device)
    memvir = MemVir(loss, setting.N, setting.M, memory_dtype=memory_dtype)
    optimizer = torch.optim.Adam([*network.parameters(), *memvir.parameters()], lr=1e-4)
    source = batches(setting, device)
    fill = range((setting.N + 1) * (setting.M + 1))
    for _ in tqdm(fill, desc="filling the memory", leave=False):
        embeddings, labels = next(source)
        memvir(embeddings.requires_grad_(), labels)
    images = torch.randn(setting.B, 3, pixels, pixels, device=device)
    seconds: dict[str, list[float]] = {"whole": [], "plain": [], "memvir": []}
    for repeat in tqdm(range(repeats + 1), desc="steps", leave=False):
        labels = next(source)[1]

        def step() -> None:
            optimizer.zero_grad()
            embeddings = torch.nn.functional.normalize(network(images))
            memvir(embeddings, labels).backward()
            optimizer.step()

        times = {"whole": timed(step, device)}
        for name, function in (("plain", plain), ("memvir", memvir)):
            x = next(source)[0].requires_grad_()
            times[name] = timed(lambda: function(x, labels).backward(), device)
        if repeat:  # the first is for warming up
            for name, value in times.items():
                seconds[name].append(value)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return Share(
        setting,
        median["whole"],
        median["plain"],
        median["memvir"],
        memvir.memory_nbytes,
    )


def resnet50(embedding_size: int) -> torch.nn.Module:
    """Without pretrained weights, which do not change its speed."""
    from torchvision.models import resnet50 as make

    return make(weights=None, num_classes=embedding_size)


def table(shares: list[Share], about: str) -> Table:
    result = Table(box=MARKDOWN, caption=about)
    names = ("C", "N", "M", "B", "whole step, ms", "inner loss alone, ms")
    for name in (*names, "MemVir, ms", "its share", "added", "memory, MB"):
        result.add_column(name, justify="right")
    for share in shares:
        s = share.setting
        values: list[Any] = [s.C, s.N, s.M, s.B]
        for value in (share.whole, share.plain_loss, share.memvir):
            values.append(f"{1000 * value:.1f}")
        values += [f"{share.of_whole:.1%}", f"{share.added:.1%}"]
        result.add_row(*map(str, values), f"{share.memory_nbytes / 1e6:.0f}")
    return result
