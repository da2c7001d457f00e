"""The small MemVir, of which the patch for PML is made: against the same oracle."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import miners, reducers, regularizers

from pml_memvir import MemVir, register_loss
from pml_memvir.pml.basic import MemVir as Basic
from pml_memvir.pml.specs import has_logits
from pml_memvir.pml.virtual_classes import Snapshot

from .catalog import BY_NAME, CASES, NUM_CLASSES, batch, names, ragged
from .reference import NaiveMemVir, relative_error
from .test_against_reference import compare

EXACT = [case for case in CASES if has_logits(case.loss())]
OF_PML = [case for case in CASES if case.own_inner is None]


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("num_steps, step_gap, warmup", [(1, 0, 0), (3, 2, 4)])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_every_loss(case, num_steps, step_gap, warmup):
    torch.manual_seed(0)
    settings = num_steps, step_gap, warmup
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, *settings)
    batches = ragged(1, warmup + 3 * num_steps * (step_gap + 1) + 2)
    seen = compare(case, Basic(case.loss(), *settings), naive, batches)
    assert seen[: warmup + step_gap + 1] == [0] * (warmup + step_gap + 1)
    assert seen[-1] == num_steps


def test_all_of_pml_but_two_are_exact():
    names = {case.name for case in OF_PML} - {case.name for case in EXACT}
    assert names == {"P2SGradLoss", "ProxyAnchorLoss"}


@pytest.mark.parametrize("name", ["SphereFaceLoss", "LargeMarginSoftmaxLoss"])
def test_embeddings_of_any_length(name):
    case = BY_NAME[name]
    generator = torch.Generator().manual_seed(2)
    batches = [batch(generator, 5, unit=False) for _ in range(12)]
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    compare(case, Basic(case.loss(), 2, 1), naive, batches)


def the_same(make, batches, miner=None, change=lambda loss, step: None):
    """Values and both gradients of the whole package's, by concatenation.

    Args:
        change: of the loss, from step 6 on, when two steps have been met.
    """
    torch.manual_seed(1)
    loss = make()
    small, whole = Basic(loss, 2, 1), MemVir(loss, 2, 1, algorithm="concatenation")
    parameter = next(loss.parameters())
    for step, (embeddings, labels) in enumerate(batches):
        if step >= 6:
            change(loss, step)
        found = []
        for memvir in (small, whole):
            x = embeddings.clone().requires_grad_()
            parameter.grad = None
            value = memvir(x, labels, miner and miner(embeddings, labels))
            value.backward()
            found.append((value.detach(), x.grad, parameter.grad))
        for a, b in zip(*found):
            assert relative_error(a, b) <= 1e-9, step
        with torch.no_grad():
            parameter -= 0.05 * parameter.grad
    assert small.num_virtual_steps == whole.num_virtual_steps == 2


@pytest.mark.parametrize(
    "make",
    [
        reducers.SumReducer,
        reducers.AvgNonZeroReducer,
        partial(reducers.ThresholdReducer, low=0.5, high=12),
        partial(reducers.ClassWeightedReducer, torch.arange(1, NUM_CLASSES + 1) / 3),
        reducers.PerAnchorReducer,
        partial(reducers.MultipleReducers, {"loss": reducers.SumReducer()}),
    ],
)
@pytest.mark.parametrize("case", EXACT, ids=names)
def test_reducers_and_regularisers(case, make):
    def loss():
        return case.loss(
            reducer=make(),
            weight_regularizer=regularizers.RegularFaceRegularizer(),
            embedding_regularizer=regularizers.LpRegularizer(),
        )

    the_same(loss, ragged(0, 12))


@pytest.mark.parametrize("case", [c for c in OF_PML if c.tolerance < 1e-8], ids=names)
def test_miners(case):
    the_same(case.loss, ragged(0, 12), miners.TripletMarginMiner(margin=0.5))


def test_a_distance_that_is_inverted():
    make = partial(BY_NAME["ProxyNCALoss"].loss, distance=distances.CosineSimilarity())
    the_same(make, ragged(0, 12))


@pytest.mark.parametrize("name", ["CosFaceLoss", "SoftTripleLoss", "P2SGradLoss"])
def test_class_weights_follow_the_embeddings_dtype(name):
    """As those of the library's losses do; old ones are met in it, too."""
    memvir = Basic(BY_NAME[name].loss(), 2, 0)
    for step, (embeddings, labels) in enumerate(ragged(0, 6)):
        x = embeddings.to(torch.float64 if step < 3 else torch.float32)
        memvir(x.requires_grad_(), labels).backward()
        assert x.grad.dtype == next(memvir.parameters()).dtype == x.dtype
    assert memvir.num_virtual_steps == 2


@pytest.mark.parametrize("name", ["CosFaceLoss", "ProxyAnchorLoss"])
def test_it_keeps_copies_and_no_more_than_it_will_meet(name):
    memvir, kept = Basic(BY_NAME[name].loss(), 2, 1), []
    for embeddings, labels in ragged(0, 12):
        memvir(embeddings, labels)
        kept.append(embeddings.clone())
        embeddings.zero_(), labels.zero_()
    snapshots = memvir._memory.snapshots
    assert sorted(snapshots) == [8, 9, 10, 11]
    assert all(torch.equal(s.embeddings, kept[step]) for step, s in snapshots.items())
    assert any(s.labels.any() for s in snapshots.values())


def test_a_change_of_mode_does_not_empty_the_memory():
    memvir, batches = Basic(BY_NAME["CosFaceLoss"].loss(), 1, 0), ragged(0, 2)
    memvir(*batches[0])
    memvir.loss.eval()
    memvir(*batches[1])
    assert memvir.num_virtual_steps == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda loss: setattr(loss, "collect_stats", True),
        lambda loss: setattr(loss.distance, "collect_stats", True),
        lambda loss: setattr(loss, "compute_loss", loss.compute_loss),
        lambda loss: loss.register_full_backward_hook(lambda *_: None),
        lambda loss: loss.distance.register_forward_hook(lambda *_: None),
        lambda loss: loss.register_forward_pre_hook(lambda *_: None),
        lambda loss: loss.register_forward_hook(lambda *_: None),
        lambda loss: loss.register_parameter("b", torch.nn.Parameter(torch.zeros(1))),
        lambda loss: setattr(loss.cross_entropy, "label_smoothing", 0.1),
    ],
)
def test_a_loss_that_does_more_is_called_itself(change):
    loss = BY_NAME["CosFaceLoss"].loss()
    memvir, called = Basic(loss, 2, 0), []
    change(loss)
    inner = loss.cross_entropy.forward
    loss.cross_entropy.forward = lambda *args: called.append(1) or inner(*args)
    for embeddings, labels in ragged(0, 4):
        memvir(embeddings.requires_grad_(), labels)
    assert len(called) == 4 and memvir.num_virtual_steps == 2


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ProxyAnchorLoss"])
def test_a_training_goes_on_to_the_last_bit(name):
    case = BY_NAME[name]
    first, second = (Basic(case.loss(), 2, 1, warmup_steps=1) for _ in range(2))
    for step, (embeddings, labels) in enumerate(ragged(0, 14)):
        if step == 7:
            second.load_state_dict(saved_and_loaded(first.state_dict()))
        value = first(embeddings, labels)
        if step >= 7:
            assert torch.equal(second(embeddings, labels), value)
    assert second.num_virtual_steps == 2 and second.step == 14


def test_two_that_load_one_state_do_not_share_what_changes():
    loss, batches = BY_NAME["CosFaceLoss"].loss(), ragged(0, 10)
    first = Basic(loss, 2, 1)
    for some in batches[:6]:
        first(*some)
    state = saved_and_loaded(first.state_dict())
    second, third = Basic(loss, 2, 1), Basic(loss, 2, 1)
    second.load_state_dict(state)
    third.load_state_dict(state)
    before = str(third.get_extra_state())
    for some in batches[6:]:
        second(*some)
    assert str(third.get_extra_state()) == before


def test_a_state_is_a_copy_of_what_changes():
    memvir = Basic(BY_NAME["CosFaceLoss"].loss(), 2, 0)
    batches = ragged(0, 8)
    for embeddings, labels in batches[:4]:
        memvir(embeddings, labels)
    state = memvir.state_dict()
    before = saved_and_loaded(state)["_extra_state"]
    for embeddings, labels in batches[4:]:
        memvir(embeddings, labels)
    after = saved_and_loaded(state)["_extra_state"]
    assert str(before) == str(after)


def test_a_state_of_other_settings_is_refused():
    loss = BY_NAME["CosFaceLoss"].loss()
    memvir = Basic(loss, 3, 1)
    memvir(*ragged(0, 1)[0])
    with pytest.raises(ValueError, match=r"is of \['CosFaceLoss', 2, 1, 5"):
        memvir.load_state_dict(Basic(loss, 2, 1).state_dict())
    assert memvir.step == 1


class Shrunk(distances.CosineSimilarity):
    """Its numbers depend on all rows."""

    def compute_mat(self, query, ref):
        found = super().compute_mat(query, ref)
        return found - found.mean(dim=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda loss, step: setattr(loss, "scale", 4.0 + step),
        lambda loss, step: setattr(loss, "scale", np.float32(4 + step)),
        lambda loss, step: setattr(loss, "scale", torch.tensor(4.0 + step)),
        lambda loss, step: setattr(loss, "margin", 0.1 * (step % 3)),
        lambda loss, step: setattr(loss, "scale_logits", lambda x, *_: 3 * x),
        lambda loss, step: setattr(loss, "distance", distances.DotProductSimilarity()),
        lambda loss, step: setattr(loss, "distance", Shrunk()),
        lambda loss, step: setattr(
            loss.distance, "normalize_embeddings", step % 2 == 0
        ),
        lambda loss, step: setattr(loss, "weight_reg_weight", 1.0 / step),
        lambda loss, step: setattr(loss, "collect_stats", step % 3 == 0),
        lambda loss, step: setattr(loss, "reducer", reducers.AvgNonZeroReducer()),
    ],
)
def test_a_loss_that_changes_in_mid_run(change):
    the_same(BY_NAME["CosFaceLoss"].loss, ragged(0, 14), change=change)


@pytest.mark.parametrize("where", ["attribute", "buffer", "fixed parameter"])
def test_a_setting_in_a_tensor_that_changes_in_place(where):
    loss, scale = BY_NAME["CosFaceLoss"].loss(), torch.tensor(8.0)
    del loss.scale
    if where == "attribute":
        loss.scale = scale
    elif where == "buffer":
        loss.register_buffer("scale", scale)
    else:
        loss.scale = torch.nn.Parameter(scale, requires_grad=False)

    def change(loss, step):
        loss.scale.fill_(8.0 + step)

    the_same(lambda: loss, ragged(0, 14), change=change)


def test_a_factor_that_changes_within_a_softmax_over_centers():
    make = BY_NAME["SoftTripleLoss"].loss
    the_same(make, ragged(0, 14), change=lambda loss, n: setattr(loss, "la", 20 + n))


@pytest.mark.parametrize(
    "change",
    [
        lambda memvir: setattr(memvir, "step_gap", 0),
        lambda memvir: setattr(memvir, "num_steps", 3),
        lambda memvir: setattr(memvir.loss, "W", torch.nn.Parameter(torch.ones(6, 4))),
    ],
)
def test_another_layout_empties_the_memory(change):
    memvir = Basic(BY_NAME["CosFaceLoss"].loss(), 2, 1)
    batches = [(x, y % 4) for x, y in ragged(0, 12)]
    for embeddings, labels in batches[:6]:
        memvir(embeddings, labels)
    change(memvir)
    with pytest.warns(UserWarning, match="emptied"):
        memvir(*batches[6])
    assert memvir.num_virtual_steps == 0
    for embeddings, labels in batches[7:10]:
        memvir(embeddings, labels)
    assert memvir.num_virtual_steps > 0


def test_a_reducer_that_looks_at_embeddings_sees_all_of_them():
    class PerEmbedding(reducers.MeanReducer):
        def element_reduction(self, losses, indices, embeddings, labels):
            return (losses * embeddings[indices].norm(dim=1)).sum() / len(embeddings)

    the_same(
        partial(BY_NAME["CosFaceLoss"].loss, reducer=PerEmbedding()), ragged(0, 12)
    )


@pytest.mark.parametrize("name", ["CosFaceLoss", "P2SGradLoss"])
def test_a_memory_follows_the_embeddings_to_another_device(name, monkeypatch):
    """A step cannot be run on "meta": that it asks is seen, and what it gets."""
    memvir, asked, original = Basic(BY_NAME[name].loss(), 2, 0), [], Snapshot.to

    def to(self, device):
        asked.append(device)
        return original(self, device)

    monkeypatch.setattr(Snapshot, "to", to)
    for embeddings, labels in ragged(0, 4):
        memvir(embeddings, labels)
    assert asked == [embeddings.device] * 5  # 0, 1, 2 and 2 were met
    snapshots = memvir._memory.snapshots.values()
    moved = [s.to(torch.device("meta")) for s in snapshots]
    assert [s.settings for s in moved] == [s.settings for s in snapshots]
    tensors = [t for s in moved for t in (*vars(s).values(), *s.lse.values())]
    devices = {t.device.type for t in tensors if isinstance(t, torch.Tensor)}
    assert len(moved) == 2 and devices == {"meta"}


def test_labels_of_a_small_type():
    loss = pml.P2SGradLoss(6, 100).double()
    small, whole = Basic(loss, 4, 0), MemVir(loss, 4, 0)
    for embeddings, labels in ragged(0, 8):
        labels = (labels + 95).to(torch.uint8)
        expected = whole(embeddings, labels.long())
        assert relative_error(small(embeddings, labels), expected) <= 1e-12
    assert small.num_virtual_steps == 4


@pytest.mark.parametrize("case", [BY_NAME["CosFaceLoss"], BY_NAME["ProxyAnchorLoss"]])
def test_bad_batches_leave_holes(case):
    memvir, batches = Basic(case.loss(), 3, 1), ragged(5, 30)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 3, 1)
    compare(case, memvir, naive, batches[:9])
    bad = batches[9][0].clone()
    bad[0, 0] = torch.nan
    memvir(bad, batches[9][1])
    naive.step += 1
    assert compare(case, memvir, naive, batches[10:])[1] == 2
    with torch.no_grad():
        case.weight(memvir.loss)[0, 0] = torch.nan
    count = len(memvir._memory.snapshots)
    memvir(*batches[0])
    assert len(memvir._memory.snapshots) == count - 1


def test_numbers_that_overflow_are_not_kept():
    memvir = Basic(pml.CosFaceLoss(NUM_CLASSES, 6), 2, 0)
    for step, (x, y) in enumerate(ragged(0, 6)):
        memvir.loss.scale = 1e39 if step == 2 else 64  # more than float32 holds
        value = memvir(x.float(), y)
        assert value.isfinite() == (step != 2)
        assert (step in memvir._memory.snapshots) == (step != 2)


def test_two_forwards_before_one_backward():
    """At M = 0, where the second one meets what the first one leaves."""
    case, batches = BY_NAME["ArcFaceLoss"], ragged(0, 6)
    memvir, weight = Basic(case.loss(), 2, 0), None
    for embeddings, labels in batches[:4]:
        memvir(embeddings, labels)
    weight = memvir.loss.W
    other = Basic(case.loss(), 2, 0)
    other.load_state_dict(saved_and_loaded(memvir.state_dict()))
    sum(memvir(*some) for some in batches[4:]).backward()
    for some in batches[4:]:
        other(*some).backward()
    assert relative_error(weight.grad, other.loss.W.grad) <= 1e-12


def test_it_is_its_inner_loss_without_gradients():
    memvir = Basic(BY_NAME["CosFaceLoss"].loss(), 2, 0)
    for embeddings, labels in ragged(0, 4):
        memvir(embeddings, labels)
    expected = memvir.loss(embeddings, labels)
    with torch.no_grad():
        assert torch.equal(memvir(embeddings, labels), expected)
    assert torch.equal(memvir.eval()(embeddings, labels), expected)
    assert memvir.step == 4
    assert not torch.equal(memvir.train()(embeddings, labels), expected)


def test_a_loss_of_ones_own(forget_registrations):
    class Softmax(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3, 6).double())

        def forward(self, embeddings, labels, indices_tuple=None):
            logits = embeddings @ self.weight.t()
            return torch.nn.functional.cross_entropy(logits, labels)

    with pytest.raises(ValueError, match="does not support Softmax"):
        Basic(Softmax(), 1, 0)
    register_loss(Softmax, "weight", 0)
    batches = [(x, y % 3) for x, y in ragged(0, 8)]
    the_same(Softmax, batches)
    memvir = Basic(Softmax(), 1, 0).eval()
    assert torch.equal(memvir(*batches[0]), memvir.loss(*batches[0]))


@pytest.mark.parametrize(
    "settings, error",
    [((0, 1), ValueError), ((1, -1), ValueError), ((1.5, 1), TypeError)],
)
def test_settings_that_are_refused(settings, error):
    with pytest.raises(error):
        Basic(pml.CosFaceLoss(3, 4), *settings)


def test_losses_and_labels_that_are_refused():
    with pytest.raises(ValueError, match="does not support TripletMarginLoss"):
        Basic(pml.TripletMarginLoss(), 1, 0)
    with pytest.raises(ValueError, match="does not support"):
        Basic.check_loss_support("TripletMarginLoss")
    memvir = Basic(pml.CosFaceLoss(3, 4), 1, 0)
    for label in (-1, 3):
        with pytest.raises(ValueError, match="must be 0 to 2"):
            memvir(torch.randn(2, 4), torch.tensor([0, label]))
    for labels in (torch.zeros(0).long(), torch.zeros(2)):
        with pytest.raises(ValueError, match="must be integers, at least one"):
            memvir(torch.randn(len(labels), 4), labels)
    assert memvir.step == 0
