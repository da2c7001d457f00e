"""MemVir with 1,000,000 classes: class weights kept once a gap, in half precision.

    python examples/many_classes.py

What a wide gap costs with many classes are copies of the class weights. Here they are
kept once in M + 1 steps, which is N + 1 copies however wide the gap is; embeddings,
which are small, are kept of every step. The size is printed before anything runs, and
the time of a step beside that of the plain loss's.

There are fewer than 1,000 letters: the other classes stand in for those of a large data
set. They have class weights, which each step computes and each snapshot holds, but no
images. The accuracy says nothing: these few steps are a fraction of an epoch. It takes
7 GB, and some minutes on two cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from glyphs import BATCH_SIZE, evaluate, load, make_network, parse
from torch.utils.data import DataLoader

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax

EMBEDDING_SIZE = 128
NUM_STEPS = 5
WIDE_GAP = 499  # what it would be in a long training


def main() -> None:
    options = parse(__doc__, num_classes=1_000_000, steps=21, step_gap=2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    data = load(options)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)
    for step_gap in (WIDE_GAP, options.step_gap):
        print(
            f"{options.num_classes} classes, N = {NUM_STEPS}, M = {step_gap}: MemVir's "
            f"memory will take {nbytes(options.num_classes, step_gap)} bytes"
        )

    network = make_network(EMBEDDING_SIZE).to(device)
    plain = NormSoftmax(options.num_classes, EMBEDDING_SIZE)
    loss_func = MemVir(
        plain,
        num_steps=NUM_STEPS,
        step_gap=options.step_gap,
        class_weights_every=options.step_gap + 1,
        memory_dtype=torch.float16,  # its numbers are below 1
        memory_device="cpu",  # a GPU gets what a step needs while it computes another
    ).to(device)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},
        ]
    )

    def step(loss: torch.nn.Module) -> tuple[torch.Tensor, float]:
        """One step with either loss, and the seconds it took."""
        images, labels = next(batches)
        begin = time.perf_counter()
        value = loss(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach(), time.perf_counter() - begin

    batches = endless(loader)
    seconds = statistics.median(step(plain)[1] for _ in range(3))
    print(f"the plain loss: {seconds:.2f} s a step")
    for number in range(1, options.steps + 1):
        value, seconds = step(loss_func)
        print(
            f"step {number}: loss {value:.4f}, "
            f"{loss_func.num_virtual_classes} virtual classes, {seconds:.2f} s"
        )
    print(f"MemVir's memory takes {loss_func.memory_nbytes} bytes")
    evaluate(network, data.test)


def nbytes(num_classes: int, step_gap: int) -> int:
    """N + 1 copies of the class weights, (N + 1) (M + 1) batches of embeddings."""
    return MemVir.estimate_nbytes(
        num_steps=NUM_STEPS,
        step_gap=step_gap,
        num_classes=num_classes,
        embedding_size=EMBEDDING_SIZE,
        batch_size=BATCH_SIZE,
        memory_dtype=torch.float16,
        class_weights_every=step_gap + 1,
    )


def endless(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
