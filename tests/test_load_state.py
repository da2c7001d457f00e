"""Loading is all or nothing, whatever comes; plain checkpoints are taken in."""

import copy
import random
import warnings

import pytest
import torch

from pml_memvir import MemVir, losses
from pml_memvir.checkpoints import CheckpointError
from pml_memvir.state import checkpoints

from .catalog import BY_NAME, CASES, names, norm_softmax, ragged, train


def trained(steps=7, **settings):
    memvir = norm_softmax(**{"num_steps": 2, "step_gap": 1, **settings})
    with torch.no_grad():
        memvir.W.add_(steps)  # others have others
    train(memvir, ragged(0, steps))
    return memvir


def frozen(memvir):
    """All that loading could change."""
    return copy.deepcopy(memvir.state_dict()), memvir.W.detach().clone()


def assert_untouched(memvir, before):
    state, weight = before
    assert torch.equal(memvir.W, weight)
    assert same(memvir.state_dict(), state)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# ------------------------------------------------------------------ plain checkpoints


@pytest.mark.parametrize("case", CASES, ids=names)
def test_a_plain_checkpoint_loads_into_the_wrapper(case):
    plain = case.loss()
    memvir = MemVir(case.loss(), 2, 1)
    train(memvir, ragged(0, 5))
    missing, unexpected = memvir.load_state_dict(plain.state_dict())
    assert not missing and not unexpected
    assert torch.equal(case.weight(memvir.loss), case.weight(plain))
    assert memvir.virtual_classes() is None and memvir.memory_nbytes == 0
    assert memvir.step == 5  # no second warm-up
    train(memvir, ragged(1, 3))
    assert memvir.num_virtual_steps == 1


def test_a_plain_checkpoint_within_a_parent():
    plain = torch.nn.ModuleDict({"metric": losses.NormSoftmax(5, 6)})
    wrapped = torch.nn.ModuleDict({"metric": MemVir(losses.NormSoftmax(5, 6), 2, 1)})
    state = plain.state_dict()
    wrapped.load_state_dict(state)
    assert torch.equal(wrapped["metric"].W, plain["metric"].W)
    assert list(state) == ["metric.W"]  # the caller's dict is as it was


def test_a_plain_checkpoint_of_another_shape_is_refused():
    memvir = trained()
    before = frozen(memvir)
    with pytest.raises(
        CheckpointError, match=r"size mismatch for W: .* torch.Size\(\[6, 5\]\)"
    ):
        memvir.load_state_dict(losses.NormSoftmax(7, 6).state_dict())
    assert_untouched(memvir, before)


# -------------------------------------------------------------------- all or nothing


def test_other_weights_leave_memory_and_weights_alone():
    """The memory fits and the weights do not, or the other way round."""
    memvir = trained()
    before = frozen(memvir)
    good = trained(9).state_dict()
    with pytest.raises(CheckpointError, match="size mismatch for W"):
        memvir.load_state_dict({**good, "loss.W": torch.zeros(6, 9)})
    bad = copy.deepcopy(good)
    bad["memory.labels"][0, 0, 0] = 99
    bad["memory.seal"] += 99 - good["memory.labels"][0, 0, 0]
    with pytest.raises(CheckpointError, match="labels must be 0 to 4"):
        memvir.load_state_dict(bad)
    assert_untouched(memvir, before)
    with pytest.raises(CheckpointError, match="does not fit"):
        memvir.load_state_dict({**good, "memory.seal": None})
    assert_untouched(memvir, before)
    with pytest.raises(CheckpointError, match="Unexpected key.*extra"):
        memvir.load_state_dict({**good, "loss.extra": good["loss.W"]})
    assert_untouched(memvir, before)
    with pytest.raises(RuntimeError, match="foo is unknown"):
        memory = {k: v for k, v in good.items() if k.startswith("memory.")}
        memvir.load_state_dict(memory | {"foo": 1})
    with pytest.raises(CheckpointError, match=r"memory.\*, the memory, is missing"):
        memvir.load_state_dict({"loss.W": good["loss.W"]})
    assert_untouched(memvir, before)
    memvir.load_state_dict(good)
    assert memvir.step == 9


def test_memvirs_part_in_a_parent_is_all_or_nothing():
    parent = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "metric": trained()})
    before = frozen(parent["metric"])
    state = copy.deepcopy(parent.state_dict())
    state["metric.memory.calls"] -= 99
    state["metric.loss.W"] += 1
    with pytest.raises(CheckpointError, match="calls must be >= 0, got -92"):
        parent.load_state_dict(state)
    assert_untouched(parent["metric"], before)


def test_not_strict():
    memvir = trained()
    weight = torch.ones_like(memvir.W)
    memvir.load_state_dict({"loss.W": weight, "other": weight}, strict=False)
    assert torch.equal(memvir.W, weight) and memvir.memory_nbytes == 0
    before = frozen(memvir)
    memvir.load_state_dict({}, strict=False)
    assert_untouched(memvir, before)


def test_a_state_of_nothing_is_damage():
    """None in the place of the memory is no checkpoint of the plain loss."""
    memvir = trained()
    before = frozen(memvir)
    state = trained(9).state_dict()
    for strict in (True, False):
        with pytest.raises(CheckpointError, match="of version 1, got None"):
            memvir.load_state_dict(
                {"loss.W": state["loss.W"], "_extra_state": None}, strict=strict
            )
        with pytest.raises(CheckpointError, match="one integer, got None"):
            memvir.load_state_dict(state | {"memory.calls": None}, strict=strict)
        assert_untouched(memvir, before)


def test_keys_of_others_leave_everything_alone():
    memvir = trained()
    before = frozen(memvir)
    for key in ("module.W", "loss.other"):
        memvir.load_state_dict({key: torch.zeros(3)}, strict=False)
        assert_untouched(memvir, before)


def test_assign():
    memvir, other = trained(), trained(9)
    memvir.load_state_dict(other.state_dict(), assign=True)
    assert memvir.W.data_ptr() == other.W.data_ptr() and memvir.step == 9


@pytest.mark.parametrize(
    "weight, message",
    [
        (
            torch.zeros(6, 5, dtype=torch.long),
            "Only Tensors of floating point",
        ),
        ("inference", "no tensor of torch.inference_mode"),
    ],
)
def test_what_cannot_be_assigned(weight, message):
    memvir = trained()
    before = frozen(memvir)
    if isinstance(weight, str):
        with torch.inference_mode():
            weight = torch.zeros(6, 5, dtype=torch.double)
    state = {**trained(9).state_dict(), "loss.W": weight}
    with pytest.raises(CheckpointError, match=message):
        memvir.load_state_dict(state, assign=True)
    assert_untouched(memvir, before)
    memvir.load_state_dict(state)
    assert torch.equal(memvir.W, weight.double()) and memvir.step == 9


class Renamed(losses.NormSoftmax):
    """Takes checkpoints of its own older versions."""

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        if prefix + "weight" in state_dict:
            state_dict[prefix + "W"] = state_dict.pop(prefix + "weight")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def test_a_loss_that_renames_what_it_loads():
    memvir, other = (MemVir(Renamed(5, 6), 2, 1) for _ in range(2))
    memvir(torch.randn(3, 6), torch.arange(3))
    state = memvir.state_dict()
    state["loss.weight"] = state.pop("loss.W")
    other.load_state_dict(state)
    assert torch.equal(other.W, memvir.W) and other.step == 1
    other.load_state_dict({"weight": torch.ones(6, 5)})  # of the plain loss
    assert other.W.eq(1).all() and other.memory_nbytes == 0
    state = {"weight": torch.ones(6, 5), "more": torch.ones(1)}
    with pytest.raises(RuntimeError, match='Unexpected .* "more"'):
        other.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"memory.\*, the memory, is missing"):
        other.load_state_dict({"more": torch.ones(1)})


def test_a_state_without_memory_by_a_hook():
    memvir = trained()

    def take_out(module, state, *_):
        for key in [key for key in state if key.startswith("memory.")]:
            del state[key]

    memvir._register_state_dict_hook(take_out)
    state = memvir.state_dict()
    assert list(state) == ["loss.W"]
    with pytest.raises(CheckpointError, match=r"memory.\*, the memory, is missing"):
        memvir.load_state_dict(state)


def test_a_wrapper_with_state_of_its_own():
    memvir, other = trained(), trained(3)
    for module in (memvir, other):
        module.extra = torch.nn.Linear(2, 2)
    other.load_state_dict(memvir.state_dict())
    assert torch.equal(other.extra.weight, memvir.extra.weight) and other.step == 7


@pytest.mark.parametrize(
    "weight, message",
    [
        (torch.zeros(6, 5).to_sparse(), "between dense and sparse Tensors"),
        (torch.zeros(6, 5).numpy(), "expected torch.Tensor"),
        (torch.zeros(6, 5, device="meta"), "no data!"),
        (torch.zeros(6, 5) * 1j, "W must be real, got torch.complex64"),
    ],
)
def test_weights_that_cannot_be_copied(weight, message):
    memvir = trained()
    before = frozen(memvir)
    with pytest.raises(CheckpointError, match=message):
        memvir.load_state_dict({**trained(9).state_dict(), "loss.W": weight})
    assert_untouched(memvir, before)


@pytest.mark.parametrize("change", [-1, 1])
def test_numbers_of_another_algorithm_are_refused(change):
    state = copy.deepcopy(trained().state_dict())
    for name in ("memory.terms", "memory.lse"):
        length = state[name].shape[2]
        index = torch.arange(length + change) % length
        state[name] = state[name].index_select(2, index)
    with pytest.raises(CheckpointError, match="do not fit together"):
        trained().load_state_dict(state)


@pytest.mark.parametrize(
    "name, dtype, message",
    [
        ("class_weights", torch.half, "class_weights must be .*float64, got .*float16"),
        ("lse", torch.float32, "lse must be torch.float64, got torch.float32"),
        ("embeddings", torch.float8_e5m2, "embeddings must be a tensor of floats"),
    ],
)
def test_tensors_of_dtypes_that_do_not_go_together_are_refused(name, dtype, message):
    memvir = trained()
    before = frozen(memvir)
    state = trained(9).state_dict()
    state[f"memory.{name}"] = state[f"memory.{name}"].to(dtype)
    with pytest.raises(CheckpointError, match=message):
        memvir.load_state_dict(state)
    assert_untouched(memvir, before)


# ---------------------------------------------------------------------------- fuzzing


def leaves(tree, path=()):
    """Paths to everything in nested dicts and lists, containers included."""
    yield path
    items = tree.items() if isinstance(tree, dict) else ()
    if isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    for key, value in items:
        yield from leaves(value, (*path, key))


def put(tree, path, change):
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = change(tree[path[-1]])


def changed(generator, value):
    """Something else in the value's place."""
    others = [None, "text", -1, 3.5, [], {}, torch.zeros(2), [value], 10**30]
    if isinstance(value, torch.Tensor) and value.numel():
        spoilt = value.clone()
        spoilt.view(-1)[generator.randrange(value.numel())] = (
            float("nan") if value.is_floating_point() else -7
        )
        others += [
            spoilt,
            *((value[:1], value[..., :-1]) if value.ndim else (value + 1, -value)),
            value.unsqueeze(0),
            value.to(torch.complex64),
            value.int(),
            value.half(),
            value.flatten(),
            torch.empty_like(value, device="meta"),
        ]
    if isinstance(value, (dict, list)) and value:
        less = copy.copy(value)
        less.pop(generator.choice(list(value)) if isinstance(value, dict) else -1)
        others += [less, [*value]]
    if isinstance(value, int):
        others += [value + 1, True, str(value)]
    return generator.choice(others)


@pytest.mark.parametrize("name", ["NormSoftmax", "ProxyAnchorLoss", "P2SGradLoss"])
@pytest.mark.parametrize("seed", range(5))
def test_a_fuzzed_state_is_loaded_whole_or_not_at_all(name, seed):
    """After a refusal nothing has changed; what is accepted can be trained on."""
    generator = random.Random(seed)
    case = BY_NAME[name]
    torch.manual_seed(0)
    source, target = (MemVir(case.loss(), 2, 1) for _ in range(2))
    train(source, ragged(0, 7))
    train(target, ragged(1, 5))
    clean = copy.deepcopy(source.state_dict())
    weight = case.weight(target.loss)
    refused = 0
    for _ in range(80):
        before = copy.deepcopy(target.state_dict())
        state = copy.deepcopy(clean)
        path = generator.choice(list(leaves(dict(state)))[1:])
        try:
            put(state, path, lambda value: changed(generator, value))
        except TypeError:  # an item of a tuple
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                target.load_state_dict(state)
            except CheckpointError:
                refused += 1
                assert same(target.state_dict(), before), path
                continue
            if not weight.any():  # with which P2SGradLoss itself fails
                target.load_state_dict(clean)
                continue
            values = train(target, ragged(2, 5))
        if case.name != "P2SGradLoss" and weight.isfinite().all():
            assert all(value.isfinite() for value in values), path
        target.load_state_dict(clean)
    assert refused > 30


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("rank, world_size", [(1, 2), (0, 3)])
def test_a_gathered_memory_is_of_no_rank(rank, world_size, gather, monkeypatch):
    """Any rank can go on with it; one of a rank's own batches is that rank's."""
    source, target = (
        norm_softmax(num_steps=2, step_gap=0, gather=gather) for _ in range(2)
    )
    train(source, ragged(0, 4))
    monkeypatch.setattr(checkpoints, "rank_and_world_size", lambda: (0, 2))
    state = source.state_dict()
    monkeypatch.setattr(checkpoints, "rank_and_world_size", lambda: (rank, world_size))
    if gather:
        target.load_state_dict(state)
        assert target.memory_nbytes == source.memory_nbytes > 0
    else:
        message = f"is of rank 0 of 2, this .* rank {rank} of {world_size}"
        with pytest.warns(UserWarning, match=message):
            target.load_state_dict(state)
        assert target.memory_nbytes == 0


def test_what_is_kept_of_an_emptied_cell_does_not_count():
    memvir = norm_softmax(num_steps=3, step_gap=0)
    train(memvir, ragged(0, 2))  # of three cells
    contents = memvir._memory.storage.contents
    contents.tensors["lse"][0, 0, :, 2] = float("inf")
    other = norm_softmax(num_steps=3, step_gap=0)
    other.load_state_dict(memvir.state_dict())
    assert len(other.virtual_classes().steps) == 2
    contents.tensors["lse"][0, 0, :, 1] = float("inf")
    with pytest.raises(ValueError, match="lse have NaN or infinity"):
        other.load_state_dict(memvir.state_dict())
