"""MemVir with 100,000 classes, in half precision and in CPU memory.

    python examples/many_classes.py

The memory grows with the number of classes; its size is known before anything runs.
There are fewer than 1,000 letters: the other classes stand in for those of a large data
set. They have class weights, which each step computes and each snapshot holds, but no
images. So the size and the time of a step are those of 100,000 classes. The accuracy
says nothing: these few steps are a fraction of an epoch.
"""

from __future__ import annotations

import time

import torch
from glyphs import BATCH_SIZE, evaluate, load, make_network, parse
from torch.utils.data import DataLoader

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax

EMBEDDING_SIZE = 128
NUM_STEPS = 5


def main() -> None:
    options = parse(__doc__, num_classes=100_000, steps=45, step_gap=7)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    data = load(options)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)
    # There are up to N (M+1) snapshots of all class weights and one batch. float16 fits
    # numbers below 1, as those of NormSoftmax are, better than bfloat16 does. Where
    # that is still too much, snapshot_every=k keeps one snapshot in k steps.
    nbytes = MemVir.estimate_nbytes(
        num_steps=NUM_STEPS,
        step_gap=options.step_gap,
        num_classes=options.num_classes,
        embedding_size=EMBEDDING_SIZE,
        batch_size=BATCH_SIZE,
        memory_dtype=torch.float16,
    )
    print(f"{options.num_classes} classes: MemVir's memory will take {nbytes} bytes")

    network = make_network(EMBEDDING_SIZE).to(device)
    loss_func = MemVir(
        NormSoftmax(options.num_classes, EMBEDDING_SIZE),
        num_steps=NUM_STEPS,
        step_gap=options.step_gap,
        memory_dtype=torch.float16,
        memory_device="cpu",  # a GPU gets what a step needs while it computes another
    ).to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},
        ]
    )

    begin = time.perf_counter()
    step = 0
    while step < options.steps:
        for images, labels in loader:
            loss = loss_func(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 10 == 0 or step == options.steps:
                seconds = time.perf_counter() - begin
                print(
                    f"step {step}: loss {loss:.4f}, "
                    f"{loss_func.num_virtual_classes} virtual classes, {seconds:.0f} s"
                )
            if step == options.steps:
                break
    print(f"MemVir's memory takes {loss_func.memory_nbytes} bytes")
    evaluate(network, data.test)


if __name__ == "__main__":
    main()
