"""Which losses MemVir takes, and what of them the wrapper shows."""

import copy

import pytest
import torch
from pytorch_metric_learning import losses as pml

from pml_memvir import MemVir, losses, register_loss

from .catalog import BY_NAME, CASES, EMBEDDING_SIZE, NUM_CLASSES, norm_softmax, ragged
from .reference import NaiveMemVir, pml_inner
from .test_against_reference import compare


def test_supported_losses_are_named():
    assert MemVir.supported_losses() == sorted(case.name for case in CASES)
    for name in MemVir.supported_losses():
        MemVir.check_loss_support(name)
    with pytest.raises(ValueError, match="TripletMarginLoss.*Supported: ArcFaceLoss"):
        MemVir.check_loss_support("TripletMarginLoss")


@pytest.mark.parametrize(
    "make",
    [
        pml.TripletMarginLoss,
        pml.NCALoss,
        pml.InstanceLoss,
        lambda: pml.ManifoldLoss(4),
        lambda: pml.MarginLoss(num_classes=3),
        lambda: pml.CrossBatchMemory(pml.ContrastiveLoss(), EMBEDDING_SIZE),
        lambda: pml.MultipleLosses([pml.CosFaceLoss(3, 4)]),
        lambda: norm_softmax(num_steps=1, step_gap=0),
        lambda: pml.CosFaceLoss,
        lambda: None,
    ],
)
def test_other_losses_are_refused_with_the_list(make):
    with pytest.raises(ValueError, match="Supported: ArcFaceLoss, CosFaceLoss, "):
        MemVir(make(), num_steps=1, step_gap=0)


def test_subclasses_are_recognised_by_their_nearest_class():
    class Mine(pml.SubCenterArcFaceLoss):
        pass

    inner = Mine(num_classes=4, embedding_size=3, sub_centers=2)
    memvir = MemVir(inner, num_steps=1, step_gap=0)
    x, y = torch.randn(5, 3), torch.randint(4, (5,))
    memvir(x, y)
    memvir(x, y)
    assert memvir.num_virtual_classes == 4


class TwoCenters(torch.nn.Module):
    """A loss that owes nothing to PML's base classes."""

    def __init__(self, num_classes, centers=2):
        super().__init__()
        self.centers = centers
        self.zero = 0
        self.V = torch.nn.Parameter(torch.randn(num_classes * centers, EMBEDDING_SIZE))
        self.line = torch.nn.Parameter(torch.randn(3))

    def forward(self, embeddings, labels, indices_tuple=None):
        logits = embeddings @ self.V.t()
        logits = logits.unflatten(1, (-1, self.centers)).logsumexp(2)
        return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("centers_per_class", [2, "centers"])
def test_a_loss_of_your_own(centers_per_class, forget_registrations):
    torch.manual_seed(0)
    inner = TwoCenters(NUM_CLASSES).double()
    with pytest.raises(ValueError, match="does not support TwoCenters"):
        MemVir(inner, num_steps=1, step_gap=0)
    register_loss(TwoCenters, "V", 0, centers_per_class)
    assert "TwoCenters" in MemVir.supported_losses()
    case = copy.copy(BY_NAME["ProxyNCALoss"])
    case.parameter = "V"
    oracle = pml_inner(lambda c: TwoCenters(c).double(), "V", 0, 2)
    naive = NaiveMemVir(oracle, NUM_CLASSES, 2, 1)
    compare(case, MemVir(inner, 2, 1), naive, ragged(0, 12))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("CosFaceLoss", "W", 1), "subclass of torch.nn.Module, got 'CosFaceLoss'"),
        ((pml.CosFaceLoss, "W", 1), "CosFaceLoss is supported already"),
        ((TwoCenters, "", 0), "attribute's name, got ''"),
        ((TwoCenters, "V", 2), "class_dim must be 0 or 1, got 2"),
        ((TwoCenters, "V", 0, 0), "centers_per_class must be an integer >= 1.* got 0"),
    ],
)
def test_bad_registrations(arguments, message, forget_registrations):
    with pytest.raises((TypeError, ValueError), match=message):
        register_loss(*arguments)


@pytest.mark.parametrize(
    "parameter, class_dim, centers, message",
    [
        ("nothing", 0, 1, "TwoCenters.nothing must be a 2-D .* got nothing"),
        ("line", 0, 1, r"TwoCenters.line must be a 2-D .* got Parameter\(3,\)"),
        ("V", 0, "nope", "TwoCenters has no attribute 'nope'"),
        ("V", 0, "zero", "multiple of centers_per_class=0"),
        ("V", 0, 3, r"multiple of centers_per_class=3 .* got shape \(10, 6\)"),
    ],
)
def test_registrations_that_do_not_fit(
    parameter, class_dim, centers, message, forget_registrations
):
    register_loss(TwoCenters, parameter, class_dim, centers)
    with pytest.raises(ValueError, match=message):
        MemVir(TwoCenters(NUM_CLASSES), num_steps=1, step_gap=0)


def test_attributes_pass_through():
    inner = pml.SubCenterArcFaceLoss(num_classes=4, embedding_size=3, sub_centers=2)
    memvir = MemVir(inner, num_steps=1, step_gap=0)
    x, y = torch.randn(8, 3), torch.arange(4).repeat(2)
    assert torch.equal(memvir.get_logits(x), inner.get_logits(x))
    assert torch.equal(memvir.get_outliers(x, y)[1], inner.get_outliers(x, y)[1])
    assert memvir.distance is inner.distance
    assert memvir.W is inner.W
    weight = torch.nn.Parameter(torch.randn(3, 8))
    memvir.W = weight
    assert inner.W is weight and list(memvir.parameters()) == [weight]
    memvir.scale = 5.0
    assert inner.scale == 5.0
    memvir.note = "mine"
    assert not hasattr(inner, "note")


def test_private_names_and_module_do_not_pass_through():
    inner = losses.NormSoftmax(3, 4)
    inner._secret = inner.module = 1
    memvir = MemVir(inner, num_steps=1, step_gap=0)
    assert not hasattr(memvir, "_secret") and not hasattr(memvir, "module")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        memvir.nonsense


def test_a_loss_with_attributes_of_our_names(forget_registrations):
    class Step(TwoCenters):
        step, num_steps, warmup_steps = 7, 8, 9

    register_loss(Step, "V", 0, 2)
    memvir = MemVir(Step(3), num_steps=2, step_gap=1)
    assert (memvir.step, memvir.num_steps, memvir.warmup_steps) == (0, 2, 0)
    memvir(torch.randn(2, EMBEDDING_SIZE), torch.tensor([0, 1]))
    assert memvir.step == 1 and memvir.loss.step == 7
    memvir.warmup_steps = 3
    assert memvir.warmup_steps == 3 and memvir.loss.warmup_steps == 9
