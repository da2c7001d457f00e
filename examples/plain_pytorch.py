"""MemVir in a plain PyTorch loop.

    python examples/plain_pytorch.py

One statement is needed, the one that says so. What is printed of MemVir can be left
out, and all else is as it was.
"""

from __future__ import annotations

import torch
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, evaluate, load, make_network, parse
from torch.utils.data import DataLoader

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax


def main() -> None:
    options = parse(__doc__, epochs=4, step_gap=100)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    data = load(options)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)

    network = make_network().to(device)
    loss_func = NormSoftmax(data.num_classes, EMBEDDING_SIZE)
    loss_func = MemVir(  # <- this one
        loss_func, num_steps=2, step_gap=options.step_gap, warmup_steps=len(loader)
    )
    loss_func.to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},  # the class weights
        ]
    )

    for epoch in range(1, options.epochs + 1):
        losses = []
        for images, labels in loader:
            embeddings = network(images.to(device))
            loss = loss_func(embeddings, labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        # The more virtual classes there are, the more must be told apart: the loss
        # rises when they come, which says nothing about the embeddings.
        print(
            f"epoch {epoch}: mean loss {torch.stack(losses).mean():.4f}, "
            f"{loss_func.num_virtual_classes} virtual classes"
        )
    # 1 would mean that they do not move: old copies of a class would teach nothing.
    cosine = loss_func.cosine_to_oldest
    print(f"class weights and those of the oldest snapshot: cosine {cosine:.4f}")
    evaluate(network, data.test)


if __name__ == "__main__":
    main()
