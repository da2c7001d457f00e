"""What each process of a distributed test does."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# Before there is a process group, which its functions' defaults would keep alive: the
# threads of gloo, running while Python ends, can abort the process (PyTorch #190489).
import torch.distributed.nn
from pytorch_metric_learning import miners, reducers
from pytorch_metric_learning.utils.distributed import DistributedMinerWrapper
from torch.nn.parallel import DistributedDataParallel as DDP

from pml_memvir import MemVir
from tests.catalog import BY_NAME, CASES, EMBEDDING_SIZE, NUM_CLASSES

NUM_STEPS, STEP_GAP, STEPS, ROWS, INPUTS = 2, 1, 14, 6, 4
LR = 0.05
NOT_FINITE_AT = 5


def scenarios(world_size: int) -> dict[str, dict[str, Any]]:
    """By name: the loss, MemVir's arguments, and what is special about the batches.

    What ranks do alone is tried with two.
    """
    found: dict[str, dict[str, Any]] = {}
    for case in CASES:
        if world_size == 2 and case.name not in ("ProxyAnchorLoss", "P2SGradLoss"):
            found[f"local {case.name}"] = {"case": case.name}
        found[f"gathered {case.name}"] = {"case": case.name, "gather": True}
    gathered = {"case": "NormSoftmax", "gather": True}
    return found | {
        "threshold": {**gathered, "case": "CosFaceLoss", "reducer": True},
        "uneven": {**gathered, "uneven": True},
        "uneven anchors": {**gathered, "case": "ProxyAnchorLoss", "uneven": True},
        "miner": {**gathered, "case": "ArcFaceLoss", "miner": True},
        "bad rank": {**gathered, "bad": True},
        "proxies without": {**gathered, "case": "ProxyAnchorLoss", "bad": True},
    }


def make_loss(scenario: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    kwargs = {}
    if scenario.get("reducer"):
        kwargs["reducer"] = reducers.ThresholdReducer(low=1.0)
    return BY_NAME[scenario["case"]].loss(**kwargs)


def make_network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Linear(INPUTS, EMBEDDING_SIZE).double()


def make_miner() -> torch.nn.Module:
    return miners.MultiSimilarityMiner(epsilon=0.3)


def batches(
    scenario: dict[str, Any], world_size: int
) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """For each step, each rank's images and labels."""
    generator = torch.Generator().manual_seed(2)
    steps = []
    for step in range(STEPS):
        ranks = []
        for rank in range(world_size):
            rows = ROWS
            if scenario.get("uneven"):  # even nothing
                rows = (step + 2 * rank) % 5
                rows += (rank == 0 and rows == 0) * 2
            x = torch.randn(rows, INPUTS, generator=generator).double()
            y = torch.randint(NUM_CLASSES, (rows,), generator=generator)
            if scenario.get("bad") and (step, rank) == (NOT_FINITE_AT, 1):
                x[0, 0] = float("nan")
            ranks.append((x, y))
        steps.append(ranks)
    return steps


def run(scenario: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Values and gradients of all steps, averaged over ranks."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    gather = scenario.get("gather", False)
    memvir = MemVir(make_loss(scenario), NUM_STEPS, STEP_GAP, gather=gather)
    network, loss = DDP(make_network()), DDP(memvir)
    miner = DistributedMinerWrapper(make_miner()) if scenario.get("miner") else None
    weight = BY_NAME[scenario["case"]].weight(memvir.loss)
    parameters = [*network.parameters(), weight]
    results = []
    for ranks in batches(scenario, world_size):
        x, y = ranks[rank]
        for parameter in parameters:
            parameter.grad = None
        embeddings = normalised(network(x))
        mined = miner(embeddings, y) if miner else None
        value = loss(embeddings, y, mined)
        value.backward()
        mean = value.detach().clone()
        dist.all_reduce(mean)
        results.append(
            {
                "value": mean / world_size,
                "network_grad": parameters[0].grad.clone(),
                "weight_grad": weight.grad.clone(),
                "num_virtual_steps": torch.tensor(memvir.num_virtual_steps),
            }
        )
        descend(parameters, value)
    met = memvir.virtual_classes()
    results[-1]["most_rows_met"] = torch.tensor(max(met.batch_sizes))
    return results


def normalised(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x)


def descend(parameters: list[torch.Tensor], value: torch.Tensor) -> None:
    """A step of plain SGD, unless the loss is NaN: then as a GradScaler would, none."""
    if all(p.grad.isfinite().all() for p in parameters):
        with torch.no_grad():
            for parameter in parameters:
                parameter -= LR * parameter.grad


def states_of_ranks(folder: Path) -> dict[str, Any]:
    """Resume from this rank's own file, and from another's."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    scenario: dict[str, Any] = {"case": "NormSoftmax"}
    x = [
        (normalised(torch.randn(4, EMBEDDING_SIZE).double()), torch.arange(4))
        for _ in range(12)
    ]

    def train(memvir: MemVir, start: int, stop: int) -> list[float]:
        return [memvir(e.clone().requires_grad_(), y).item() for e, y in x[start:stop]]

    memvir = MemVir(make_loss(scenario), NUM_STEPS, STEP_GAP)
    train(memvir, 0, 8)
    torch.save(memvir.state_dict(), folder / f"state_{rank}.pth")
    dist.barrier()
    result: dict[str, Any] = {"expected": train(memvir, 8, 12)}
    for name, whose in (("own", rank), ("other", (rank + 1) % world_size)):
        resumed = MemVir(make_loss(scenario), NUM_STEPS, STEP_GAP)
        state = torch.load(folder / f"state_{whose}.pth", weights_only=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            resumed.load_state_dict(state)
        result[name] = {
            "warnings": [str(w.message) for w in caught],
            "nbytes": resumed.memory_nbytes,
            "step": resumed.step,
            "weight": bool(torch.equal(resumed.W, memvir.W)),
            "values": train(resumed, 8, 12),
        }
    return result


def one_rank_refuses() -> list[str]:
    """Rank 1's batch is wrong in different ways: all raise, none is a step ahead."""
    rank = dist.get_rank()
    memvir = MemVir(make_loss({"case": "NormSoftmax"}), NUM_STEPS, 0, gather=True)
    x, y = torch.randn(3, EMBEDDING_SIZE).double(), torch.arange(3)
    mined = (y, y, y)
    wrong: list[tuple[Any, ...]] = [
        (x, y.float()),
        (x[:, :-1], y),
        (x, None),
        ("text", y),
        (x, y, (y, y, y - 1)),
        (x, y, (y, y, y.numpy())),
        (x, y, (y[0], y[0], y[0])),
        (x, y, (y, y[:1], y)),
        (x.float(), y),
        (x, y, (y, y, y + 50)),
        (x, y, None),
        (x, y + NUM_CLASSES),
    ]
    messages = []
    for bad in wrong:
        try:
            good = (x, y, mined) if len(bad) == 3 else (x, y)
            memvir(*(bad if rank == 1 else good))
        except (RuntimeError, TypeError, ValueError) as error:
            messages.append(str(error))
        memvir(x.clone().requires_grad_(), y).backward()
    try:
        memvir(x[:0], y[:0])
    except ValueError as error:
        messages.append(str(error))
    # A rank without a batch, and without anything that needs a gradient.
    x = x[:0] if rank == 1 else x.requires_grad_()
    memvir(x, y[: len(x)]).backward()
    return [*messages, f"step {memvir.step}"]


def main(folder: Path) -> None:
    """Run all scenarios and leave rank_R.pth in the folder."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    results: dict[str, Any] = {}
    for name, scenario in scenarios(dist.get_world_size()).items():
        results[name] = run(scenario)
    results["refused"] = one_rank_refuses()
    results["states"] = states_of_ranks(folder)
    torch.save(results, folder / f"rank_{dist.get_rank()}.pth")
    dist.destroy_process_group()
