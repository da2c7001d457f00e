"""`python -m benchmarks share`: how much of a whole training step the loss takes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm import tqdm

from pml_memvir import MemVir

from ..report.markdown import as_table
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
    whole, plain_loss, of_memvir = median.values()
    return Share(setting, whole, plain_loss, of_memvir, memvir.memory_nbytes)


def resnet50(embedding_size: int) -> torch.nn.Module:
    """Without pretrained weights, which do not change its speed."""
    from torchvision.models import resnet50 as make

    return make(weights=None, num_classes=embedding_size)


def table(shares: list[Share], about: str) -> str:
    """In Markdown, and what it is about below."""
    rows = [
        {
            **{name: str(getattr(share.setting, name)) for name in "CNMB"},
            "whole step, ms": f"{1000 * share.whole:.1f}",
            "inner loss alone, ms": f"{1000 * share.plain_loss:.1f}",
            "MemVir, ms": f"{1000 * share.memvir:.1f}",
            "its share": f"{share.of_whole:.1%}",
            "added": f"{share.added:.1%}",
            "memory, MB": f"{share.memory_nbytes / 1e6:.0f}",
        }
        for share in shares
    ]
    return f"{as_table(pd.DataFrame(rows))}\n\n{about}"
