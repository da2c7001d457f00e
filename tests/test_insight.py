"""What MemVir says of its virtual classes, against the same from whole logits."""

import copy
import math

import pytest
import torch
from pytorch_metric_learning import losses as pml_losses
from torch.nn.functional import normalize

from pml_memvir import MemVir, losses
from pml_memvir.readings import RECORDED

C, D, B, N, M = 5, 6, 8, 3, 1


def cosface_logits(x, w, labels):
    logits = 7 * normalize(x) @ normalize(w).T
    if labels is not None:
        logits[torch.arange(len(x)), labels] -= 7 * 0.2
    return logits


def arcface_logits(x, w, labels):
    cosines = normalize(x) @ normalize(w).T
    if labels is not None:
        angles = cosines[torch.arange(len(x)), labels].clamp(-1, 1).acos()
        margin = math.radians(20)
        cosines[torch.arange(len(x)), labels] = torch.where(
            angles <= math.pi - margin,
            (angles + margin).cos(),
            angles.cos() - margin * math.sin(margin),
        )
    return 7 * cosines


LOSSES = {
    "Softmax": (lambda: losses.Softmax(C, D), lambda x, w, labels: x @ w.T),
    "NormSoftmax": (
        lambda: losses.NormSoftmax(C, D, scale=4.0),
        lambda x, w, labels: 4 * x @ normalize(w).T,
    ),
    "CosFace": (
        lambda: pml_losses.CosFaceLoss(C, D, margin=0.2, scale=7),
        cosface_logits,
    ),
    "ArcFace": (
        lambda: pml_losses.ArcFaceLoss(C, D, margin=20, scale=7),
        arcface_logits,
    ),
}


def train(memvir, steps, seed=0, skip=()):
    """Random batches and moving class weights; some batches are not finite."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        x = torch.randn(B, D, dtype=torch.float64, generator=generator)
        labels = torch.randint(C, (B,), generator=generator)
        before = memvir.virtual_classes()
        weights = memvir.W.detach().t().clone()
        if step in skip:
            x[0] = torch.nan
        memvir(x.requires_grad_(), labels)
        with torch.no_grad():
            memvir.W += 0.3 * torch.randn(
                memvir.W.shape, dtype=torch.float64, generator=generator
            )
    return x.detach(), labels, weights, before


@pytest.mark.filterwarnings("ignore:Step .* has NaN")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("steps, skip", [(3, ()), (7, ()), (12, (7,))])
@pytest.mark.parametrize("chunk_steps", [1, None])
def test_shares_and_losses(name, steps, skip, chunk_steps):
    torch.manual_seed(0)
    make, logits_of = LOSSES[name]
    memvir = MemVir(make().double(), N, M, chunk_steps=chunk_steps)
    x, labels, weights, virtual = train(memvir, steps, skip=skip)
    n = len(virtual)
    assert n == min((steps - 1) // (M + 1), N) - len(skip)
    logits = [logits_of(x, weights, labels)]
    logits += [logits_of(x, w, None) for w in virtual.class_weights]
    if name != "Softmax":  # the memory holds them normalised
        assert virtual.class_weights.norm(dim=-1).allclose(torch.ones(()).double())
    probabilities = torch.cat(logits, 1).softmax(1).view(B, n + 1, C)
    own = probabilities[torch.arange(B), :, labels]
    actual = probabilities[:, 0].sum(1).mean().item()
    of_own = own[:, 1:].sum(1).mean().item()
    assert memvir.share_of_actual_classes == pytest.approx(actual, rel=1e-9)
    assert memvir.share_of_own_copies == pytest.approx(of_own, rel=1e-9)
    assert memvir.share_of_other_copies == pytest.approx(1 - actual - of_own, abs=1e-9)
    assert memvir.actual_loss == pytest.approx(-own[:, 0].log().mean().item(), rel=1e-9)
    assert memvir.log_num_copies == math.log(n + 1)

    # Virtual rows: each against the actual classes and all virtual ones.
    total, rows = 0.0, 0
    for k, (e, y) in enumerate(zip(virtual.embeddings, virtual.labels)):
        all_logits = [logits_of(e, weights, None)]
        all_logits += [
            logits_of(e, w, y if j == k else None)
            for j, w in enumerate(virtual.class_weights)
        ]
        target = (k + 1) * C + y
        total += torch.nn.functional.cross_entropy(
            torch.cat(all_logits, 1), target, reduction="sum"
        ).item()
        rows += len(y)
    assert memvir.virtual_loss == pytest.approx(total / rows, rel=1e-9)


@pytest.mark.parametrize("algorithm", ["auto", "concatenation"])
def test_cosines(algorithm):
    torch.manual_seed(0)
    inner = losses.NormSoftmax(C, D).double()
    memvir = MemVir(inner, N, M, algorithm=algorithm)
    assert memvir.cosines_to_snapshots() == []
    assert math.isnan(memvir.cosine_to_newest)
    train(memvir, 9)
    virtual = memvir.virtual_classes()
    now = memvir.W.detach().t()
    expected = {
        step: torch.cosine_similarity(now, w, dim=1).mean().item()
        for step, w in zip(virtual.steps, virtual.class_weights)
    }
    found = memvir.cosines_to_snapshots()
    assert found == pytest.approx([expected[s] for s in sorted(expected, reverse=True)])
    assert memvir.cosine_to_newest == found[0] and memvir.cosine_to_oldest == found[-1]
    assert found[0] > found[-1]  # weights that move at random move away


def test_an_unchanged_class_is_not_told_from_its_copies():
    """Equal snapshots: the loss is that of the plain loss and ln(n + 1)."""
    torch.manual_seed(0)
    memvir = MemVir(losses.NormSoftmax(C, D, scale=9.0), num_steps=4, step_gap=0)
    x, labels = normalize(torch.randn(B, D)).requires_grad_(), torch.arange(B) % C
    for _ in range(6):
        memvir(x, labels)
    plain = memvir.loss(x, labels).item()
    assert memvir.cosine_to_oldest == pytest.approx(1, abs=1e-6)
    assert memvir.actual_loss == pytest.approx(plain + math.log(5), rel=1e-5)
    assert memvir.virtual_loss == pytest.approx(memvir.actual_loss, rel=1e-5)
    assert memvir.share_of_actual_classes == pytest.approx(1 / 5, rel=1e-5)


def test_nothing_to_tell():
    names = [name for name in RECORDED if not name.startswith("cosine")]
    # No virtual classes yet, and an algorithm that does not look into its loss.
    for steps, algorithm in ((M + 1, "auto"), (M + 2, "concatenation")):
        memvir = MemVir(losses.Softmax(C, D), N, M, algorithm=algorithm)
        for _ in range(steps):
            memvir(torch.randn(B, D, requires_grad=True), torch.arange(B) % C)
        assert all(math.isnan(getattr(memvir, name)) for name in names)


def test_of_the_last_step_only():
    memvir = MemVir(losses.Softmax(C, D), N, M)
    for _ in range(M + 2):
        memvir(torch.randn(B, D, requires_grad=True), torch.arange(B) % C)
    assert memvir.actual_loss > 0
    memvir.eval()(torch.randn(B, D), torch.arange(B) % C)  # no step
    assert memvir.train().actual_loss > 0
    memvir.warmup_steps = 10**6  # holes, until nothing is left to meet
    for _ in range((N + 1) * (M + 1)):
        memvir(torch.randn(B, D, requires_grad=True), torch.arange(B) % C)
    assert memvir.num_virtual_steps == 0 and math.isnan(memvir.actual_loss)


def test_proxy_anchor_has_losses_and_no_shares():
    memvir = MemVir(pml_losses.ProxyAnchorLoss(C, D), N, M)
    for _ in range(3):
        value = memvir(torch.randn(B, D, requires_grad=True), torch.arange(B) % C)
    assert math.isnan(memvir.share_of_own_copies)
    both = memvir._progress.insight
    assert len(both.actual_losses) == len(both.virtual_losses) == C
    assert memvir.actual_loss > 0 and memvir.virtual_loss > 0
    mean = torch.cat([both.actual_losses, both.virtual_losses]).mean().item()
    assert mean == pytest.approx(value.item(), rel=1e-5)  # all classes have positives


def test_watching_changes_nothing_and_is_not_saved():
    torch.manual_seed(0)
    one = MemVir(losses.NormSoftmax(C, D).double(), N, M)
    other = copy.deepcopy(one)
    for seed in range(5):
        train(one, 1, seed)
        for name in RECORDED:
            getattr(one, name)
        train(other, 1, seed)
    states = one.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert (
        copy.deepcopy(one)._progress.insight is None
        and one._progress.insight is not None
    )
    state = one.state_dict()
    assert "insight" not in repr(state.keys())
    one.reset_memory()
    assert math.isnan(one.share_of_own_copies) and math.isnan(one.cosine_to_newest)


def test_recorded(tmp_path):
    logging_presets = pytest.importorskip(
        "pytorch_metric_learning.utils.logging_presets"
    )
    keeper, writer, _ = logging_presets.get_record_keeper(str(tmp_path / "records"))
    memvir = MemVir(losses.NormSoftmax(C, D), N, M)
    for step in range(6):
        memvir(torch.randn(B, D, requires_grad=True), torch.arange(B) % C)
        keeper.update_records(
            {"metric_loss": memvir}, step, recursive_types=[torch.nn.Module]
        )
    keeper.save_records()
    rows = keeper.query("SELECT * FROM metric_loss_MemVir")
    last = dict(zip(rows[-1].keys(), rows[-1]))
    for name in RECORDED:
        assert last[name] == pytest.approx(getattr(memvir, name))
    assert rows[0]["actual_loss"] is None
