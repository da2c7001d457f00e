"""A loss of one's own that breaks a rule is told so by the constructor."""

import copy
import random

import numpy
import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.utils import common_functions as c_f
from torch.nn import functional as F

from pml_memvir import MemVir, register_loss
from pml_memvir.pml import trial

from .catalog import BY_NAME, EMBEDDING_SIZE, NUM_CLASSES, ragged
from .reference import NaiveMemVir, pml_inner
from .test_against_reference import compare

C, D = NUM_CLASSES, EMBEDDING_SIZE


class Own(torch.nn.Module):
    def __init__(self, num_classes=C):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_classes, D))

    def forward(self, embeddings, labels, indices_tuple=None):
        return F.cross_entropy(self.logits(embeddings), labels)

    def logits(self, embeddings):
        return embeddings @ self.weight.t()


class Biased(Own):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(C))

    def logits(self, embeddings):
        return super().logits(embeddings) + self.bias


class Counts(Own):
    def __init__(self):
        super().__init__()
        self.n_classes = C

    def forward(self, embeddings, labels, indices_tuple=None):
        target = F.one_hot(labels, self.n_classes).to(embeddings)
        return -(self.logits(embeddings).log_softmax(1) * target).sum(1).mean()


class TwoArguments(Own):
    def forward(self, embeddings, labels):
        return F.cross_entropy(self.logits(embeddings), labels)


class FourRows(Own):
    def forward(self, embeddings, labels, indices_tuple=None):
        if len(labels) != 4:
            raise RuntimeError("four rows only")
        return super().forward(embeddings, labels)


class BiasedCosFace(pml.CosFaceLoss):
    def __init__(self):
        super().__init__(C, D)
        self.bias = torch.nn.Parameter(torch.zeros(C))

    def get_cosine(self, embeddings):
        return super().get_cosine(embeddings) + self.bias


class Headed(torch.nn.Module):
    def __init__(self, num_classes=C, bias=False):
        super().__init__()
        self.head = torch.nn.Linear(D, num_classes, bias=bias)
        self.num_classes = num_classes

    def forward(self, embeddings, labels, indices_tuple=None):
        assert self.num_classes == len(self.head.weight)
        return F.cross_entropy(self.head(embeddings), labels)


@pytest.mark.parametrize(
    "make, parameter, class_dim, centers, message",
    [
        (Biased, "weight", 0, 1, r"10 classes instead of 5.* and has bias \(5,\)"),
        (Counts, "weight", 0, 1, "number of classes .* not from n_classes"),
        (TwoArguments, "weight", 0, 1, r"\(embeddings, labels, indices_tuple\)"),
        (FourRows, "weight", 0, 1, "four rows only.* batches of any size"),
        (Own, "weight", 1, 1, r"shape \(5, 6\), has its classes in dimension 0"),
        (lambda: Headed(bias=True), "head.weight", 0, 1, r"has head.bias \(5,\)"),
        (Headed, "head.nothing", 0, 1, "Headed.head.nothing must be a 2-D .* nothing"),
        (Headed, "tail.weight", 0, 1, "Headed.tail.weight must be a 2-D .* nothing"),
    ],
)
def test_which_rule_is_broken(
    make, parameter, class_dim, centers, message, forget_registrations
):
    loss = make()
    register_loss(type(loss), parameter, class_dim, centers)
    with pytest.raises(ValueError, match=message):
        MemVir(loss, num_steps=2, step_gap=1)


def test_centers_that_are_not_told(forget_registrations):
    class TwoCenters(Own):
        def logits(self, embeddings):
            return super().logits(embeddings).unflatten(1, (-1, 2)).logsumexp(2)

    register_loss(TwoCenters, "weight", 0)
    with pytest.raises(ValueError, match="not of 9, the last of the 10 classes"):
        MemVir(TwoCenters(10), num_steps=2, step_gap=1)


def test_a_subclass_of_a_known_loss():
    with pytest.raises(ValueError, match=r"has bias \(5,\)"):
        MemVir(BiasedCosFace(), num_steps=2, step_gap=1)


def test_a_parameter_by_its_path(forget_registrations):
    register_loss(Headed, "head.weight", 0)
    case = copy.copy(BY_NAME["ProxyNCALoss"])
    case.weight = lambda loss: loss.head.weight

    naive = NaiveMemVir(pml_inner(lambda c: Own(c).double(), "weight", 0), C, 2, 1)
    memvir = MemVir(Headed().double(), 2, 1)
    compare(case, memvir, naive, ragged(0, 8))
    assert memvir.head.weight.shape == (C, D) == memvir.loss.head.weight.shape
    assert "loss.head.weight" in memvir.state_dict() and memvir.num_classes == C


class Busy(Own):
    """Draws, counts, has buffers, and is listened to."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(D)
        self.calls = 0
        self.seen = []

    def forward(self, embeddings, labels, indices_tuple=None):
        self.calls += 1
        self.seen.append(len(labels))
        noise = random.random() + numpy.random.rand() + c_f.NUMPY_RANDOM.rand()
        embeddings = self.norm(embeddings + noise * torch.randn_like(embeddings))
        return super().forward(F.dropout(embeddings), labels)


def test_a_trial_leaves_no_trace(forget_registrations, monkeypatch):
    monkeypatch.setattr(c_f, "NUMPY_RANDOM", numpy.random.RandomState(3))
    register_loss(Busy, "weight", 0)
    loss = Busy().eval()
    loss.weight.grad = torch.ones_like(loss.weight)
    heard = []
    loss.register_forward_hook(lambda *_: heard.append(0))
    before = copy.deepcopy(loss.state_dict())
    states = random.getstate(), torch.get_rng_state()
    numpys = [r.get_state()[1].copy() for r in (numpy.random, c_f.NUMPY_RANDOM)]
    version = loss.weight._version
    MemVir(loss, num_steps=2, step_gap=1)
    assert states[0] == random.getstate()
    assert torch.equal(states[1], torch.get_rng_state())
    for r, state in zip((numpy.random, c_f.NUMPY_RANDOM), numpys):
        assert (r.get_state()[1] == state).all()
    for name, tensor in loss.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert loss.weight.grad.eq(1).all() and loss.weight._version == version
    assert loss.calls == 0 and not loss.seen and not heard and not loss.training


@pytest.mark.parametrize("copies", [True, False])
def test_what_cannot_be_tried_is_let_pass(copies, forget_registrations):
    class Strict(Own):
        """Takes real data only, or cannot be copied."""

        def __deepcopy__(self, memo):
            if not copies:
                raise RuntimeError("no copies")
            new = Strict()
            memo[id(self)] = new
            return new

        def forward(self, embeddings, labels, indices_tuple=None):
            if len(labels) < 5:
                raise RuntimeError("more rows")
            return super().forward(embeddings, labels)

    register_loss(Strict, "weight", 0)
    memvir = MemVir(Strict(), num_steps=1, step_gap=0)
    x, y = torch.randn(6, D), torch.randint(C, (6,))
    memvir(x, y), memvir(x, y)
    assert memvir.num_virtual_classes == C


def test_losses_that_are_supported_are_not_tried(monkeypatch, forget_registrations):
    tried, copy_of = [], trial._copy_of
    monkeypatch.setattr(
        trial, "_copy_of", lambda loss: tried.append(loss) or copy_of(loss)
    )
    MemVir(pml.CosFaceLoss(C, D), num_steps=1, step_gap=0)
    assert not tried
    register_loss(Own, "weight", 0)
    MemVir(Own(), num_steps=1, step_gap=0)
    assert tried


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype, forget_registrations):
    register_loss(Own, "weight", 0)
    MemVir(Own().to(dtype), num_steps=1, step_gap=0)
    with torch.device("meta"):
        loss = Own()
    MemVir(loss, num_steps=1, step_gap=0)
