"""MemVir around a loss of your own.

    python examples/own_loss.py

Any loss will do that keeps one weight vector or more for each class in one parameter,
and nothing else for each class. `register_loss` says where they are.
"""

from __future__ import annotations

from typing import Any

import torch
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, evaluate, load, make_network, parse
from torch import nn
from torch.utils.data import DataLoader

from pml_memvir import MemVir, register_loss


class SmoothedCosineSoftmax(nn.Module):
    """Softmax over cosines with a learnt scale, and label smoothing.

    The scale is one for all classes, so it may be a parameter as well. Targets other
    than the row's own class count as classes, virtual ones included.
    """

    def __init__(self, num_classes: int, embedding_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_size))
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, indices_tuple: Any = None
    ) -> torch.Tensor:
        # `self.weight` is that of actual and virtual classes when MemVir calls: take
        # the number of classes from it, not from what __init__ was given.
        directions = nn.functional.normalize(self.weight)
        logits = self.log_scale.exp() * embeddings @ directions.t()
        return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)


# Classes are counted by dimension 0 of `weight`. Once a class is enough.
register_loss(SmoothedCosineSoftmax, parameter="weight", class_dim=0)


def main() -> None:
    options = parse(__doc__, epochs=4, step_gap=100)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    data = load(options)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)

    network = make_network().to(device)
    loss_func = MemVir(
        SmoothedCosineSoftmax(data.num_classes, EMBEDDING_SIZE),
        num_steps=2,
        step_gap=options.step_gap,
        warmup_steps=len(loader),
    ).to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},  # weight and log_scale
        ]
    )
    # MemVir cannot know what a loss of your own computes, so it calls it with actual
    # and virtual classes together: (N+1)**2 blocks of logits where PML's need 2 N + 1.
    print(f"algorithm: {loss_func.algorithm_used}")

    for epoch in range(1, options.epochs + 1):
        losses = []
        for images, labels in loader:
            loss = loss_func(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        print(
            f"epoch {epoch}: mean loss {torch.stack(losses).mean():.4f}, "
            f"{loss_func.num_virtual_classes} virtual classes, "
            f"scale {loss_func.log_scale.exp():.1f}"
        )
    evaluate(network, data.test)


if __name__ == "__main__":
    main()
