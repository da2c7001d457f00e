"""Which losses the fast algorithms serve, and which go by concatenation."""

import copy

import pytest
import torch
from pytorch_metric_learning import distances
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import reducers

from pml_memvir import MemVir, register_loss

from .catalog import EMBEDDING_SIZE, FAST, NUM_CLASSES, names, norm_softmax, ragged
from .reference import relative_error


class MyCosFace(pml.CosFaceLoss):
    pass


def cosface(**kwargs):
    return pml.CosFaceLoss(NUM_CLASSES, EMBEDDING_SIZE, **kwargs)


def with_label_smoothing():
    loss = cosface()
    loss.cross_entropy = torch.nn.CrossEntropyLoss(
        label_smoothing=0.1, reduction="none"
    )
    return loss


def with_a_hook():
    loss = cosface()
    loss.distance.register_forward_hook(lambda *_: None)
    return loss


def with_its_own_logits():
    loss = cosface()
    loss.scale_logits = lambda logits, _: 2 * logits
    return loss


def with_a_backward_hook():
    loss = cosface()
    loss.register_full_backward_hook(lambda *_: None)
    return loss


def with_a_backward_pre_hook():
    loss = cosface()
    loss.register_full_backward_pre_hook(lambda *_: None)
    return loss


def with_its_own_reducer_method():
    loss = cosface()
    loss.reducer.element_reduction = lambda losses, *_: losses.sum()
    return loss


def with_its_own_softmax():
    loss = pml.ProxyNCALoss(NUM_CLASSES, EMBEDDING_SIZE)
    loss.nca_computation = lambda *_, **__: None
    return loss


class MyReducer(reducers.MeanReducer):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: MyCosFace(NUM_CLASSES, EMBEDDING_SIZE),
        with_label_smoothing,
        with_a_hook,
        with_its_own_logits,
        with_a_backward_hook,
        with_a_backward_pre_hook,
        with_its_own_reducer_method,
        with_its_own_softmax,
        lambda: cosface(scale=0),
        lambda: cosface(reducer=MyReducer()),
        lambda: cosface(reducer=reducers.DoNothingReducer()),
        lambda: cosface(reducer=reducers.DivisorReducer()),
        lambda: cosface(reducer=reducers.MultipleReducers({"loss": MyReducer()})),
        lambda: cosface(collect_stats=True),
        lambda: pml.NormalizedSoftmaxLoss(5, 6, distance=distances.LpDistance()),
        lambda: pml.ProxyNCALoss(5, 6, distance=distances.LpDistance(power=1)),
        lambda: pml.ProxyNCALoss(5, 6, distance=distances.CosineSimilarity()),
        lambda: pml.ProxyAnchorLoss(5, 6, distance=distances.CosineSimilarity(power=2)),
        lambda: pml.SoftTripleLoss(
            5, 6, distance=distances.DotProductSimilarity(power=2)
        ),
    ],
)
def test_whatever_does_not_fit_goes_by_concatenation(make):
    assert MemVir(make(), 1, 0).algorithm_used == "concatenation"


AS_GIVEN = distances.DotProductSimilarity(normalize_embeddings=False)


@pytest.mark.parametrize("case", FAST, ids=names)
@pytest.mark.parametrize(
    "distance",
    [AS_GIVEN, distances.CosineSimilarity(), distances.LpDistance(power=2)],
    ids=["product", "cosine", "distance"],
)
def test_another_distance_set_later_is_used(case, distance):
    """With nothing remembered the loss is the inner one."""
    torch.manual_seed(0)
    loss = case.loss()
    memvir = MemVir(copy.deepcopy(loss), 2, 1)
    memvir.distance = loss.distance = distance
    x, y = ragged(0, 1)[0]
    assert relative_error(memvir(x, y), loss(x, y)) <= 1e-9


def learned(value):
    return torch.nn.Parameter(torch.tensor(value, dtype=torch.double))


LEARNED = {
    "scale": lambda: cosface(scale=learned(8.0)),
    "margin": lambda: cosface(margin=learned(0.3)),
    "temperature": lambda: pml.NormalizedSoftmaxLoss(
        NUM_CLASSES, EMBEDDING_SIZE, temperature=learned(0.1)
    ),
    "la": lambda: pml.SoftTripleLoss(NUM_CLASSES, EMBEDDING_SIZE, la=learned(5.0)),
    "alpha": lambda: pml.ProxyAnchorLoss(
        NUM_CLASSES, EMBEDDING_SIZE, alpha=learned(8.0)
    ),
    "reducer.weights": lambda: cosface(
        reducer=reducers.ClassWeightedReducer(torch.nn.Parameter(torch.ones(5)))
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_what_else_is_learned_has_its_gradient(name):
    torch.manual_seed(0)
    memvir = MemVir(LEARNED[name]().double(), 2, 0)
    assert memvir.algorithm_used == "concatenation"
    parameter = dict(memvir.loss.named_parameters())[name]
    for x, y in ragged(0, 4):
        parameter.grad = None
        memvir(x, y).backward()
        assert parameter.grad.abs().sum() > 0
    parameter.requires_grad_(False)
    assert memvir.algorithm_used != "concatenation"


def test_a_scale_computed_anew_in_each_step_has_its_gradient():
    raw = learned(2.0)
    loss = cosface().double()
    loss.scale = raw.exp()
    memvir = MemVir(loss, 2, 0)
    memvir(*ragged(0, 1)[0]).backward()
    assert raw.grad.abs() > 0


def test_a_loss_of_your_own_goes_by_concatenation(forget_registrations):
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(torch.randn(4, 3))

    register_loss(Mine, "W", 1)
    assert MemVir(Mine(), 1, 0).algorithm_used == "concatenation"


def test_unknown_algorithms_and_settings():
    for kwargs, message in [
        ({"algorithm": "magic"}, "algorithm must be one of .* got 'magic'"),
        ({"chunk_steps": 0}, "chunk_steps must be >= 1, got 0"),
        ({"memory_dtype": torch.int8}, "memory_dtype must be None or one of .*int8"),
    ]:
        with pytest.raises(ValueError, match=message):
            norm_softmax(num_steps=1, step_gap=0, **kwargs)


def test_a_loss_that_becomes_another_one_is_seen():
    """Without being replaced: its class, or a tensor of one of its parts."""
    memvir = MemVir(cosface(), 2, 0)
    assert memvir.algorithm_used == "row_softmax"
    memvir.loss.__class__ = MyCosFace
    assert memvir.algorithm_used == "concatenation"
    memvir.loss.__class__ = pml.CosFaceLoss
    assert memvir.algorithm_used == "row_softmax"
    weights = torch.ones(NUM_CLASSES)
    memvir.loss.reducer = reducers.ClassWeightedReducer(weights)
    assert memvir.algorithm_used == "row_softmax"
    memvir.loss.reducer.weights.requires_grad_()
    assert memvir.algorithm_used == "concatenation"


def test_a_loss_that_is_registered_anew_is_seen(forget_registrations):
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.randn(4, 4))

        def forward(self, embeddings, labels, indices_tuple=None):
            return torch.nn.functional.cross_entropy(embeddings @ self.a.t(), labels)

    register_loss(Mine, "a", 0)
    memvir = MemVir(Mine(), 2, 0)
    assert memvir._plan.spec.class_dim == 0
    register_loss(Mine, "a", 1)
    assert memvir._plan.spec.class_dim == 1
