"""MemVir from the middle of a training that began without it.

    python examples/start_in_mid_training.py

Trains with a plain loss and saves it, loads that checkpoint into MemVir as if it were
its own, and goes on. (The way back is in docs/use.md, under Checkpoints.)
"""

from __future__ import annotations

from pathlib import Path

import torch
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, evaluate, load, make_network, parse
from torch import nn
from torch.utils.data import DataLoader

from pml_memvir import MemVir
from pml_memvir.hook_container import write_atomically
from pml_memvir.losses import NormSoftmax

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_optimizer(network: nn.Module, loss_func: nn.Module) -> torch.optim.Optimizer:
    """The same for both halves: MemVir has the parameters of its inner loss."""
    return torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},
        ]
    )


def train_epoch(
    network: nn.Module,
    loss_func: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
) -> float:
    """The mean loss."""
    losses = []
    for images, labels in loader:
        loss = loss_func(network(images.to(DEVICE)), labels.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def train_plain(
    path: Path, num_epochs: int, num_classes: int, loader: DataLoader
) -> None:
    """A training that knows nothing of MemVir, and its checkpoint."""
    network = make_network().to(DEVICE)
    loss_func = NormSoftmax(num_classes, EMBEDDING_SIZE).to(DEVICE)
    optimizer = make_optimizer(network, loss_func)
    for epoch in range(1, num_epochs + 1):
        loss = train_epoch(network, loss_func, optimizer, loader)
        print(f"epoch {epoch}, plain: mean loss {loss:.4f}")
    state = {
        "network": network.state_dict(),
        "loss": loss_func.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(state, path)


def main() -> None:
    folder = Path("output/examples/start_in_mid_training")
    options = parse(__doc__, epochs=4, step_gap=100, folder=folder)
    torch.manual_seed(0)
    data = load(options)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)
    path, half = options.folder / "plain.pth", options.epochs // 2
    train_plain(path, half, data.num_classes, loader)

    network = make_network().to(DEVICE)
    loss_func = MemVir(
        NormSoftmax(data.num_classes, EMBEDDING_SIZE),
        num_steps=2,
        step_gap=options.step_gap,
        warmup_steps=0,  # the plain training was one
    ).to(DEVICE)
    optimizer = make_optimizer(network, loss_func)
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    loss_func.load_state_dict(state["loss"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"{path} is loaded into MemVir: goes on with an empty memory")
    for epoch in range(half + 1, options.epochs + 1):
        loss = train_epoch(network, loss_func, optimizer, loader)
        print(
            f"epoch {epoch}, MemVir: mean loss {loss:.4f}, "
            f"{loss_func.num_virtual_classes} virtual classes"
        )
    evaluate(network, data.test)


if __name__ == "__main__":
    main()
