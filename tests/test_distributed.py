"""Real processes against one process that has the whole batch."""

import functools
import os
import subprocess
import sys

import pytest
import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

from pml_memvir import MemVir

from .catalog import BY_NAME, NUM_CLASSES, norm_softmax, ragged, train
from .forks import all_printed, forked
from .reference import NaiveMemVir, relative_error
from .scripts import dying_rank, ranks

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="PyTorch without torch.distributed"
)


@pytest.fixture(scope="module")
def results_of(tmp_path_factory):
    """What each rank measured, for so many processes, which are started once."""

    @functools.cache
    def results_of(world_size):
        folder = tmp_path_factory.mktemp("ranks")
        all_printed(forked(world_size, folder, ranks.main, folder))
        return [
            torch.load(folder / f"rank_{rank}.pth", weights_only=True)
            for rank in range(world_size)
        ]

    return results_of


of_two_and_three = pytest.mark.parametrize("world_size", [2, 3])


def one_process(scenario, world_size):
    """The same training by the oracle or, where that has no such part, by MemVir."""
    case = BY_NAME[scenario["case"]]
    loss = ranks.make_loss(scenario)
    network = ranks.make_network()
    weight = case.weight(loss)
    parameters = [*network.parameters(), weight]
    is_plain = not scenario.get("reducer") and not scenario.get("miner")
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, ranks.NUM_STEPS, ranks.STEP_GAP)
    memvir = MemVir(loss, ranks.NUM_STEPS, ranks.STEP_GAP, algorithm="concatenation")
    for step in ranks.batches(scenario, world_size):
        x, y = (torch.cat(parts) for parts in zip(*step))
        for parameter in parameters:
            parameter.grad = None
        embeddings = ranks.normalised(network(x))
        if is_plain:
            result = naive(embeddings.detach(), y, case.rows(weight.detach()))
            embeddings.backward(result.embedding_grad)
            grad = result.weight_grad if case.class_dim == 0 else result.weight_grad.t()
            weight.grad = grad.clone()
            used = result.class_weights  # P2SGrad brings them to unit length
            weight.data = (used if case.class_dim == 0 else used.t()).clone()
            value, virtual = result.loss, result.num_virtual_steps
        else:
            mined = ranks.make_miner()(embeddings, y) if scenario.get("miner") else None
            if mined:
                weights = lmu.convert_to_weights(mined, y, dtype=embeddings.dtype)
                assert (weights != 1).any()
            value = memvir(embeddings, y, mined)
            value.backward()
            value, virtual = value.detach(), memvir.num_virtual_steps
        yield {
            "value": value,
            "network_grad": parameters[0].grad.clone(),
            "weight_grad": weight.grad.clone(),
            "num_virtual_steps": torch.tensor(virtual),
        }
        ranks.descend(parameters, value)


@pytest.mark.parametrize(
    "world_size, name",
    [(count, name) for count in (2, 3) for name in ranks.scenarios(count)],
)
def test_ranks_together_are_one_process(results_of, world_size, name):
    results, scenario = results_of(world_size), ranks.scenarios(world_size)[name]
    tolerance = BY_NAME[scenario["case"]].tolerance
    expected = list(one_process(scenario, len(results)))
    assert max(step["num_virtual_steps"] for step in expected) == ranks.NUM_STEPS
    for rank, steps in enumerate(results):
        for number, (mine, theirs) in enumerate(zip(steps[name], expected)):
            for key, tensor in theirs.items():
                where = (rank, number, key)
                if scenario.get("bad") and number == ranks.NOT_FINITE_AT:
                    assert not tensor.isfinite().all() or key == "num_virtual_steps"
                    assert torch.equal(tensor.isnan(), mine[key].isnan()), where
                else:
                    error = relative_error(mine[key].double(), tensor.double())
                    assert error <= tolerance, where
        if not scenario.get("uneven"):
            of_ranks = len(results) if scenario.get("gather") else 1
            assert steps[name][-1]["most_rows_met"] == ranks.ROWS * of_ranks


@of_two_and_three
def test_what_one_rank_refuses_all_refuse(results_of, world_size):
    for rank, steps in enumerate(results_of(world_size)):
        messages, rest = steps["refused"][:8], steps["refused"][8:]
        dtype, too_high, not_mined, out_of_range, empty, step = rest
        assert step == "step 13"
        assert "of one dtype on all ranks, got torch.float64, torch.float32" in dtype
        assert "rank 1 has an index of 52" in too_high
        assert "on all ranks or on none, rank 1 has none" in not_mined
        assert "labels must be 0 to 4" in out_of_range
        assert "got an empty batch" in empty
        other = [message.startswith("rank 1 refused its") for message in messages]
        assert other == [rank != 1] * 8, messages


@of_two_and_three
def test_each_rank_resumes_from_its_own_file(results_of, world_size):
    for steps in results_of(world_size):
        states = steps["states"]
        assert states["own"]["values"] == states["expected"]
        assert states["own"]["warnings"] == [] and states["own"]["nbytes"] > 0


@of_two_and_three
def test_another_ranks_state_gives_weights_only(results_of, world_size):
    for rank, steps in enumerate(results_of(world_size)):
        other = steps["states"]["other"]
        assert other["weight"] and other["step"] == 8 and other["nbytes"] == 0
        (message,) = other["warnings"]
        theirs = (rank + 1) % world_size
        assert f"of rank {theirs} of {world_size}, this process is" in message
        assert other["values"] != steps["states"]["expected"]


def test_a_dead_rank_does_not_hang_the_others(tmp_path):
    """Without torchrun, which would stop them itself."""
    survivor, dead = forks = forked(2, tmp_path, dying_rank.main, 20.0)
    try:
        assert survivor.wait(timeout=90) not in (None, 0) and dead.wait() == 1
    finally:
        for fork in forks:
            fork.kill()
    output = survivor.file.read_text()
    assert "step 2" in output and "step 3" not in output
    assert "Error" in output


def test_gather_in_one_process_changes_nothing():
    plain, gathered = (
        norm_softmax(num_steps=2, step_gap=1, gather=g) for g in (False, True)
    )
    for a, b in zip(train(plain, ragged(0, 8)), train(gathered, ragged(0, 8))):
        assert torch.equal(a, b)
    plain.load_state_dict(gathered.state_dict())
    assert plain.virtual_classes() is not None


def test_data_parallel_is_refused():
    """`replicate` needs GPUs; this is what it makes of a module."""
    memvir = norm_softmax(num_steps=2, step_gap=1)
    replica = memvir._replicate_for_data_parallel()
    with pytest.raises(RuntimeError, match="does not work within DataParallel"):
        replica(*ragged(0, 1)[0])


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP is switching")
def test_fsdp_is_refused(process_group):
    from torch.distributed.fsdp import FullyShardedDataParallel

    loss = norm_softmax(num_steps=2, step_gap=1).float()
    sharded = FullyShardedDataParallel(
        torch.nn.Sequential(loss), device_id=torch.device("cpu"), use_orig_params=True
    )
    x, y = ragged(0, 1)[0]
    with pytest.raises(RuntimeError, match="within FullyShardedDataParallel: leave"):
        sharded.module[0](x.float(), y)


def test_fsdp2_is_refused(process_group):
    fsdp = pytest.importorskip("torch.distributed.fsdp", reason="FSDP2 is newer")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this PyTorch has no fully_shard")
    loss = norm_softmax(num_steps=2, step_gap=1).float()
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    sharded = fsdp.fully_shard(torch.nn.Sequential(loss), mesh=mesh)
    x, y = ragged(0, 1)[0]
    with pytest.raises(RuntimeError, match="within FullyShardedDataParallel: leave"):
        sharded[0](x.float(), y)


def test_a_network_sharded_by_fsdp2_beside_memvir(tmp_path):
    """MemVir is not sharded, and trains as beside a DistributedDataParallel network."""
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("PyTorch without FSDP2")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", "-m", "tests.scripts.sharded_network"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        made = torch.load(tmp_path / f"rank_{rank}.pth", weights_only=True)
        assert made["fsdp"] == pytest.approx(made["ddp"], rel=1e-5)
        assert all(type(value) is torch.Tensor for value in made["state"].values())
        assert int(made["state"]["memory.num_virtual_steps"]) == 2
