"""MemVir under DistributedDataParallel, with a checkpoint that each rank resumes from.

    torchrun --nproc_per_node=2 examples/distributed.py [--folder output/distributed]

Kill it at any time and run it again: it goes on from the last checkpoint. The data are
noisy points around random centres, so that nothing needs to be downloaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from pml_memvir import MemVir
from pml_memvir.hook_container import (
    random_states,
    set_random_states,
    write_atomically,
)
from pml_memvir.losses import NormSoftmax

CLASSES, PIXELS, SIZE = 20, 64, 32


def make_dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, PIXELS, generator=generator)
    labels = torch.arange(2000) % CLASSES
    images = centres[labels] + 2 * torch.randn(2000, PIXELS, generator=generator)
    return TensorDataset(images, labels)


def main(folder: Path, num_epochs: int) -> None:
    use_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if use_gpu else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", rank) if use_gpu else torch.device("cpu")
    torch.manual_seed(0)  # the same first weights everywhere

    network = torch.nn.Sequential(
        torch.nn.Linear(PIXELS, 64), torch.nn.ReLU(), torch.nn.Linear(64, SIZE)
    ).to(device)
    # Each rank keeps a memory of its own batches. The mean over ranks is the loss of
    # the whole batch; a loss or reducer for which it is not needs gather=True.
    loss = MemVir(NormSoftmax(CLASSES, SIZE), num_steps=5, step_gap=4).to(device)
    network, loss = DDP(network), DDP(loss)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=0.003)

    dataset = make_dataset()
    sampler = DistributedSampler(dataset, seed=0)
    loader = DataLoader(dataset, 50, sampler=sampler, drop_last=True)
    parts = {"network": network, "loss": loss, "optimizer": optimizer}

    first_epoch = 0
    # Weights are the same on all ranks, memories and random numbers are not: so each
    # rank has a file. All must be of one epoch; the previous ones stay until then.
    for epoch in reversed(range(num_epochs)):
        files = [folder / f"epoch{epoch}_rank{r}.pth" for r in range(world_size)]
        if all(file.exists() for file in files):
            state = torch.load(files[rank], map_location="cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            set_random_states(state["random"])
            first_epoch = epoch + 1
            break

    for epoch in range(first_epoch, num_epochs):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            embeddings = normalize(network(images.to(device)))
            value = loss(embeddings, labels.to(device))
            value.backward()
            optimizer.step()
        state = {name: part.state_dict() for name, part in parts.items()}
        state["random"] = random_states()
        write_atomically(state, folder / f"epoch{epoch}_rank{rank}.pth")
        dist.barrier()  # before anyone deletes: all files of this epoch are there
        (folder / f"epoch{epoch - 1}_rank{rank}.pth").unlink(missing_ok=True)
        if rank == 0:
            classes = loss.module.num_virtual_classes
            print(f"epoch {epoch}: loss {value:.4f}, {classes} virtual classes")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("output/distributed"))
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    main(arguments.folder, arguments.epochs)
