"""Reducers, miners, regularisers and distances, which see grown tensors."""

from unittest import mock

import pytest
import torch
from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import miners, reducers, regularizers
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

from pml_memvir import MemVir, register_loss

from .catalog import (
    BY_NAME,
    CASES,
    NUM_CLASSES,
    batch,
    names,
    norm_softmax,
    ragged,
    train,
)
from .reference import NaiveMemVir, relative_error
from .test_against_reference import compare

PER_ROW = [
    case for case in CASES if case.name not in ("P2SGradLoss", "ProxyAnchorLoss")
]
WITH_MINERS = [case for case in CASES if case.name != "P2SGradLoss"]
# The oracle's own losses know no reducers and no miners: PML's classes do.
OF_PML = [case for case in WITH_MINERS if case.own_inner is None]


@pytest.mark.parametrize(
    "make",
    [
        reducers.MeanReducer,
        reducers.SumReducer,
        lambda: reducers.ThresholdReducer(low=0.5, high=12),
        reducers.AvgNonZeroReducer,
        reducers.PerAnchorReducer,
        lambda: reducers.MultipleReducers({}),
    ],
)
@pytest.mark.parametrize("name", ["CosFaceLoss", "ProxyNCALoss", "SoftTripleLoss"])
def test_every_reducer(name, make, algorithm):
    case = BY_NAME[name]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(reducer=make()), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(reducer=make()), NUM_CLASSES, 2, 1)
    compare(case, memvir, naive, ragged(0, 12))


@pytest.mark.parametrize("name", ["pos_loss", "neg_loss"])
def test_proxy_anchor_with_one_term_that_is_not_linear(name, algorithm):
    def make():
        part = reducers.ThresholdReducer(low=0.5, high=30)
        return reducers.MultipleReducers({name: part}, reducers.SumReducer())

    case = BY_NAME["ProxyAnchorLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(reducer=make()), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(reducer=make()), NUM_CLASSES, 2, 1)
    compare(case, memvir, naive, ragged(0, 12))


@pytest.mark.parametrize("case", PER_ROW, ids=names)
def test_class_weighted_reducer_sees_labels_folded_back(case, algorithm):
    weights = torch.rand(NUM_CLASSES, dtype=torch.float64) + 0.5

    def make(copies):
        return reducers.ClassWeightedReducer(weights.repeat(copies))

    if case.own_inner is not None:
        case = BY_NAME["NormalizedSoftmaxLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(reducer=make(1)), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(reducer=make(3)), NUM_CLASSES, 2, 1)
    compare(case, memvir, naive, ragged(0, 12))


def test_distributed_loss_wrapper_refuses_it():
    """PML's takes no other wrapper; under DDP none is needed."""
    with pytest.raises(TypeError, match="use torch.*DistributedDataParallel.MemVir"):
        DistributedLossWrapper(norm_softmax(num_steps=1, step_gap=0))


def test_class_weighted_reducer_with_proxy_anchor_is_refused_later():
    memvir = MemVir(pml.ProxyAnchorLoss(3, 4), num_steps=1, step_gap=0)
    part = reducers.ClassWeightedReducer(torch.ones(3))
    memvir.reducer = reducers.MultipleReducers({"pos_loss": part, "neg_loss": part})
    with pytest.raises(ValueError, match="ClassWeightedReducer does not weigh"):
        memvir(torch.randn(3, 4), torch.arange(3))


def test_a_loss_of_three_arguments_raises_its_own_error(forget_registrations):
    class Three(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(torch.randn(4, 3))

        def forward(self, embeddings, labels, indices_tuple=None):
            raise ArithmeticError("its own")

    register_loss(Three, "W", 1)
    with pytest.raises(ArithmeticError, match="its own"):
        MemVir(Three(), num_steps=1, step_gap=0)(torch.randn(2, 4))


def test_class_weighted_reducer_with_proxy_anchor_is_refused():
    reducer = reducers.ClassWeightedReducer(torch.ones(3))
    loss = pml.ProxyAnchorLoss(3, 4, reducer=reducer)
    with pytest.raises(ValueError, match="ClassWeightedReducer does not weigh"):
        MemVir(loss, num_steps=1, step_gap=0)


def test_do_nothing_reducer_returns_actual_and_virtual_rows():
    loss = pml.CosFaceLoss(3, 4, reducer=reducers.DoNothingReducer())
    memvir = MemVir(loss, num_steps=2, step_gap=0)
    for size, total in [(2, 2), (3, 5), (4, 9), (5, 12)]:
        losses = memvir(torch.randn(size, 4), torch.randint(3, (size,)))
        assert len(losses["loss"]["losses"]) == total


@pytest.mark.parametrize("kind", ["triplets", "pairs", "empty"])
@pytest.mark.parametrize("case", OF_PML, ids=names)
def test_miner_weights(case, kind, algorithm):
    """Actual rows keep the weight they have without MemVir, virtual rows have 1."""
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    generator = torch.Generator().manual_seed(0)
    weight = case.weight(memvir.loss)
    for _ in range(8):
        x, y = batch(generator, 6)
        a, p, n = (torch.randint(5, (9,), generator=generator) for _ in range(3))
        tuples = {"triplets": (a, p, n), "pairs": (a, p, n[:4], p[:4])}
        mined = tuples.get(kind, (a[:0],) * 3)
        # ProxyNCALoss alone counts how often a row is an anchor.
        by_anchor = case.name == "ProxyNCALoss"
        own = lmu.convert_to_weights(mined, y, torch.float64, using_ref=by_anchor)

        def weights(indices_tuple, labels, dtype, using_ref=False):
            return torch.cat([own, torch.ones(len(labels) - len(own), dtype=dtype)])

        with mock.patch.object(lmu, "convert_to_weights", weights):
            expected = naive(x, y, case.rows(weight.detach()))
        actual = x.clone().requires_grad_()
        weight.grad = None
        loss = memvir(actual, y, mined)
        loss.backward()
        assert relative_error(loss.detach(), expected.loss) <= case.tolerance
        assert relative_error(actual.grad, expected.embedding_grad) <= case.tolerance
        grad = case.rows(weight.grad)
        assert relative_error(grad, expected.weight_grad) <= case.tolerance
        with torch.no_grad():
            weight -= 0.05 * weight.grad
    assert kind == "empty" or own.unique().numel() > 1


def test_a_real_miner():
    memvir = norm_softmax(num_steps=2, step_gap=0)
    miner = miners.MultiSimilarityMiner(epsilon=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        x, y = batch(generator, 12)
        x.requires_grad_()
        memvir(x, y, miner(x, y)).backward()
        assert x.grad.isfinite().all() and x.grad.any()


def test_p2s_grad_refuses_miners_in_its_own_words():
    memvir = MemVir(BY_NAME["P2SGradLoss"].loss(), 1, 0)
    for x, y in ragged(0, 3):
        memvir(x, y)
        with pytest.raises(ValueError, match="indices_tuple is not supported"):
            memvir(x, y, (torch.tensor([0]),) * 3)
    assert memvir.step == 3


@pytest.mark.parametrize("case", OF_PML, ids=names)
def test_regularisers_see_actual_rows_only(case, algorithm):
    lp = regularizers.LpRegularizer
    torch.manual_seed(0)
    # With two sub-losses the default reducers do what one does, for each.
    memvir = MemVir(
        case.loss(
            weight_regularizer=lp(p=1),
            weight_reg_weight=0.3,
            embedding_regularizer=lp(power=2),
            embedding_reg_weight=0.7,
        ),
        num_steps=2,
        step_gap=1,
        algorithm=algorithm,
    )
    naive = NaiveMemVir(case.inner(), NUM_CLASSES, 2, 1)
    weight = case.weight(memvir.loss)
    for x, y in ragged(0, 10):
        expected = naive(x, y, case.rows(weight.detach()))
        rows = case.rows(weight.detach()).clone().requires_grad_()
        plain = x.clone().requires_grad_()
        extra = 0.3 * rows.norm(p=1, dim=1).mean() + 0.7 * (
            plain.norm(dim=1).square().mean()
        )
        extra.backward()
        actual = x.clone().requires_grad_()
        weight.grad = None
        loss = memvir(actual, y)
        loss.backward()
        for a, b in [
            (loss.detach(), expected.loss + extra.detach()),
            (actual.grad, expected.embedding_grad + plain.grad),
            (case.rows(weight.grad), expected.weight_grad + rows.grad),
        ]:
            assert relative_error(a, b) <= 1e-9
        with torch.no_grad():
            weight -= 0.05 * weight.grad


@pytest.mark.parametrize(
    "name, distance",
    [
        ("NormalizedSoftmaxLoss", distances.CosineSimilarity()),
        ("NormalizedSoftmaxLoss", distances.LpDistance(power=2)),
        ("ProxyNCALoss", distances.SNRDistance()),
        ("ProxyNCALoss", distances.DotProductSimilarity(normalize_embeddings=False)),
        ("SoftTripleLoss", distances.DotProductSimilarity()),
    ],
)
def test_other_distances(name, distance, algorithm):
    case = BY_NAME[name]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(distance=distance), 2, 1, algorithm=algorithm)
    naive = NaiveMemVir(case.inner(distance=distance), NUM_CLASSES, 2, 1)
    compare(case, memvir, naive, ragged(0, 12))


@pytest.mark.parametrize("case", WITH_MINERS, ids=names)
def test_nothing_of_the_inner_loss_stays_changed(case):
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 0, algorithm="concatenation")
    train(memvir, ragged(0, 1))
    before = dict(memvir.loss.__dict__)
    train(memvir, ragged(1, 4))
    after = memvir.loss.__dict__
    assert before.keys() == after.keys()
    for name in ("num_classes", "proxy_labels"):
        assert before.get(name) is after.get(name)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_of_the_inner_loss_stays_changed_after_an_error(error):
    memvir = norm_softmax(num_steps=2, step_gap=0, algorithm="concatenation")
    train(memvir, ragged(0, 2))
    names = set(memvir.loss.__dict__)
    with mock.patch.object(memvir.loss, "get_logits", side_effect=error):
        with pytest.raises(error):
            train(memvir, ragged(1, 1))
    assert set(memvir.loss.__dict__) == names and memvir.loss.num_classes == NUM_CLASSES


# --------------------------------------------------- calls MemVir does not serve


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("call", [{}, {"ref_emb": "x", "ref_labels": "y"}])
def test_the_inner_loss_says_what_it_does_not_take(call, warm):
    memvir = norm_softmax(num_steps=1, step_gap=0)
    batches = ragged(0, 3)
    train(memvir, batches[: 0 if warm else 2])
    x, y = batches[2]
    ref = {k: (torch.randn_like(x) if v == "x" else y.clone()) for k, v in call.items()}
    labels = y if call else None
    messages = []
    for loss in (memvir, memvir.loss):
        with pytest.raises(ValueError) as caught:
            loss(x, labels, **ref)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert memvir.step == (0 if warm else 2)


def test_a_loss_that_takes_references_is_not_served(forget_registrations):
    class Takes(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(torch.randn(4, 3))

        def forward(self, embeddings, labels, indices=None, ref=None, ref_labels=None):
            return (embeddings @ self.W).sum()

    register_loss(Takes, "W", 1)
    memvir = MemVir(Takes(), num_steps=1, step_gap=0)
    x, y = torch.randn(2, 4), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="does not support ref_emb"):
        memvir(x, y, ref_emb=x, ref_labels=y)
    memvir.eval()
    assert torch.equal(memvir(x, y, ref_emb=x, ref_labels=y), (x @ memvir.W).sum())


def test_the_memory_is_no_buffer():
    """DDP would broadcast it from rank 0; a lazily shaped one would not load."""
    memvir = norm_softmax(num_steps=2, step_gap=0)
    train(memvir, ragged(0, 3))
    assert list(memvir.buffers()) == [] and len(list(memvir.parameters())) == 1
