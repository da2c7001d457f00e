"""FSDP2 around the network, MemVir beside it as it is; torchrun starts the processes.

Each leaves the losses of a training of its own batches, and those of one whose network
is DistributedDataParallel, in rank_R.pth.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel as DDP

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax


def losses(wrap: str, rank: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 6))
    memvir = MemVir(NormSoftmax(5, 6), 2, 1)
    if wrap == "fsdp":
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in network:
            fully_shard(layer, mesh=mesh)
        model = fully_shard(network, mesh=mesh)
    else:
        model = DDP(network)
    memvir_ddp = DDP(memvir)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (network, memvir)]
    generator = torch.Generator().manual_seed(rank)
    values = []
    for _ in range(9):
        x = torch.randn(6, 4, generator=generator)
        y = torch.randint(5, (6,), generator=generator)
        loss = memvir_ddp(normalize(model(x)), y)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        values.append(loss.item())
    return values, memvir.state_dict()


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    sharded, state = losses("fsdp", rank)
    whole, _ = losses("ddp", rank)
    path = Path(sys.argv[1]) / f"rank_{rank}.pth"
    torch.save({"fsdp": sharded, "ddp": whole, "state": state}, path)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # PyTorch's threads sometimes abort a process that ends by itself


if __name__ == "__main__":
    main()
