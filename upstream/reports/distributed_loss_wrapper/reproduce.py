"""DistributedLossWrapper: gradients of the loss's own parameters, 2 processes and 1."""

from __future__ import annotations

import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch.nn.parallel import DistributedDataParallel as DDP

WORLD_SIZE, BATCH = 2, 12


def gradients(with_ddp: bool, ddp_loss: bool) -> tuple[float, list[torch.Tensor]]:
    """The loss, and the gradients of the network's and of the class weights."""
    torch.manual_seed(0)  # the same weights and data on all ranks
    images, labels = torch.randn(BATCH, 8), torch.arange(BATCH) % 4
    network, loss = torch.nn.Linear(8, 8), NormalizedSoftmaxLoss(4, 8)
    parameters = [network.weight, loss.W]
    if with_ddp:
        rows = slice(dist.get_rank(), None, WORLD_SIZE)
        images, labels, network = images[rows], labels[rows], DDP(network)
        loss = DistributedLossWrapper(loss)
        loss = DDP(loss) if ddp_loss else loss
    value = loss(network(images), labels)
    value.backward()
    return value.item(), [parameter.grad for parameter in parameters]


def one_rank(rank: int, file: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{file}"
    dist.init_process_group("gloo", store, world_size=WORLD_SIZE, rank=rank)
    value, expected = gradients(False, False)  # one process, the whole batch
    faulty = False
    for name, ddp_loss in [("wrapper", False), ("DDP(wrapper)", True)]:
        got, actual = gradients(True, ddp_loss)
        faulty |= not all(map(torch.allclose, actual, expected, [1e-4] * 2, [1e-5] * 2))
        ratios = [a.norm() / e.norm() for a, e in zip(actual, expected)]
        if rank == 0:
            print(f"{name}: {WORLD_SIZE} processes, relative to one process")
            print(f"  loss                 actual {got / value:.4f}")
            print(f"  gradient of network  actual {ratios[0]:.4f}  expected 1.0000")
            print(f"  gradient of loss.W   actual {ratios[1]:.4f}  expected 1.0000")
    sys.stdout.flush()
    dist.destroy_process_group()
    sys.exit(int(faulty))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        context, file = mp.get_context("fork"), f"{folder}/store"
        ranks = [context.Process(target=one_rank, args=(r, file)) for r in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    sys.exit(max(abs(process.exitcode) for process in ranks))
