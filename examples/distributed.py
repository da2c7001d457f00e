"""MemVir under DistributedDataParallel, with a checkpoint that each rank resumes from.

    torchrun --nproc_per_node=2 examples/distributed.py

Kill it at any time and run it again: it goes on from the last epoch of which all ranks
have a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# Before there is a process group, which its functions' defaults would keep alive: the
# threads of gloo, running while Python ends, can abort the process (PyTorch #190489).
import torch.distributed.nn
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, evaluate, load, make_network, parse
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler

from pml_memvir import MemVir
from pml_memvir.hook_container import (
    random_states,
    set_random_states,
    write_atomically,
)
from pml_memvir.losses import NormSoftmax


def checkpoint(folder: Path, epoch: int, rank: int) -> Path:
    """Weights are the same on all ranks, memories are not: so each rank has a file."""
    return folder / f"epoch{epoch}_rank{rank}.pth"


def load_latest(folder: Path, num_epochs: int, parts: dict[str, Any]) -> int:
    """The last epoch of which all ranks have a file, which is loaded; 0 if none."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    for epoch in range(num_epochs, 0, -1):
        if all(checkpoint(folder, epoch, r).exists() for r in range(world_size)):
            path = checkpoint(folder, epoch, rank)
            state = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            set_random_states(state["random"])
            return epoch
    return 0


def save(folder: Path, epoch: int, parts: dict[str, Any]) -> None:
    """This rank's file; the one before goes when all ranks have theirs."""
    rank = dist.get_rank()
    state = {name: part.state_dict() for name, part in parts.items()}
    state["random"] = random_states()
    write_atomically(state, checkpoint(folder, epoch, rank))
    dist.barrier()
    checkpoint(folder, epoch - 1, rank).unlink(missing_ok=True)


def main() -> None:
    folder = Path("output/examples/distributed")
    options = parse(__doc__, epochs=4, step_gap=100, folder=folder)
    options.folder.mkdir(parents=True, exist_ok=True)
    use_gpu = torch.cuda.device_count() >= int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if use_gpu:
        local_rank = os.environ.get("LOCAL_RANK", os.environ["RANK"])
        device = torch.device("cuda", int(local_rank))
        torch.cuda.set_device(device)  # before NCCL's first barrier, which uses it
    dist.init_process_group("nccl" if use_gpu else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same first weights everywhere
    if rank > 0:
        dist.barrier()  # rank 0 draws the letters, if they are not there
    data = load(options, verbose=rank == 0)
    if rank == 0:
        dist.barrier()
    sampler = DistributedSampler(data.train, seed=0)
    loader = DataLoader(
        data.train, BATCH_SIZE // world_size, sampler=sampler, drop_last=True
    )

    network = make_network().to(device)
    # Each rank keeps a memory of its own batches. The mean over ranks is the loss of
    # the whole batch; a loss or reducer for which it is not needs gather=True.
    loss_func = MemVir(
        NormSoftmax(data.num_classes, EMBEDDING_SIZE),
        num_steps=2,
        step_gap=options.step_gap,
        warmup_steps=len(loader),
    ).to(device)
    network, loss_func = DDP(network), DDP(loss_func)
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},
        ]
    )

    parts = {"network": network, "loss": loss_func, "optimizer": optimizer}
    done = load_latest(options.folder, options.epochs, parts)
    for epoch in range(done + 1, options.epochs + 1):
        sampler.set_epoch(epoch)
        losses = []
        for images, labels in loader:
            embeddings = network(images.to(device))
            loss = loss_func(embeddings, labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        save(options.folder, epoch, parts)
        mean = torch.stack(losses).mean() / world_size
        dist.all_reduce(mean)  # their sum
        if rank == 0:
            virtual = loss_func.module.num_virtual_classes
            print(f"epoch {epoch}: mean loss {mean:.4f}, {virtual} virtual classes")
    if rank == 0:
        evaluate(network.module, data.test)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
