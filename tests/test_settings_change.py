"""What the memory holds is right after any change of what it depends on."""

import copy
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import distances, losses

from pml_memvir import MemVir
from pml_memvir import losses as own
from pml_memvir.core import notes
from pml_memvir.pml.plan import Planner

from .catalog import BY_NAME, CASES, EMBEDDING_SIZE, NUM_CLASSES, batch, names
from .reference import NaiveMemVir, pml_inner, relative_error

DISTANCES = {
    "cosine": lambda: distances.CosineSimilarity(),
    "cosine, p = 1": lambda: distances.CosineSimilarity(p=1),
    "product": lambda: distances.DotProductSimilarity(normalize_embeddings=False),
    "unit product": lambda: distances.DotProductSimilarity(),
    "squared L2": lambda: distances.LpDistance(power=2),
    "L2": lambda: distances.LpDistance(),
}
NUMBERS = ("scale", "margin", "alpha", "temperature", "gamma", "la", "softmax_scale")


def number_of(loss):
    return next((name for name in NUMBERS if hasattr(loss, name)), None)


WITH_NUMBERS = [case for case in CASES if number_of(case.loss())]


def oracle_of(memvir, case):
    """An Inner that calls a copy of the loss as it is set up now, with all classes."""

    def make(num_classes):
        loss = copy.deepcopy(memvir.loss)
        if getattr(loss, "num_classes", 0):
            loss.num_classes = num_classes
        if hasattr(loss, "proxy_labels"):
            loss.proxy_labels = torch.arange(num_classes)
        return loss

    return pml_inner(make, case.parameter, case.class_dim, case.num_centers)


def compare(memvir, naive, case, batches):
    """Each step's loss and gradients; the naive one forgets when the memory does."""
    weight = case.weight(memvir.loss)
    for x, y in batches:
        emptied = memvir.num_emptied
        actual = x.clone().requires_grad_()
        weight.grad = None
        before = case.rows(weight.detach().clone())
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            value = memvir(actual, y)
        value.backward()
        if memvir.num_emptied > emptied:
            assert any("memory is emptied" in str(w.message) for w in said)
            naive.reset_memory()
        naive.inner = oracle_of(memvir, case)
        expected = naive(x, y, before)
        assert memvir.num_virtual_steps == expected.num_virtual_steps
        assert relative_error(value.detach(), expected.loss) <= 1e-8
        assert relative_error(actual.grad, expected.embedding_grad) <= 1e-6
        assert relative_error(case.rows(weight.grad), expected.weight_grad) <= 1e-6
        with torch.no_grad():
            weight -= 0.1 * weight.grad / (1e-3 + weight.grad.norm())


def batches(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return [batch(generator, 5) for _ in range(count)]


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_setting_of_any_loss_at_any_moment(data):
    case = BY_NAME[data.draw(st.sampled_from(sorted(BY_NAME)))]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 1)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 1)
    kinds = [
        n for n in NUMBERS if isinstance(getattr(memvir.loss, n, None), (int, float))
    ]
    if case.name not in ("P2SGradLoss", "NormSoftmax", "ProxyNCA", "Softmax"):
        kinds.append("distance")
    for part in range(3):
        compare(memvir, naive, case, batches(part, data.draw(st.integers(1, 5))))
        if not kinds:
            continue
        kind = data.draw(st.sampled_from(kinds))
        before = memvir.loss.distance, {
            n: getattr(memvir.loss, n, None) for n in NUMBERS
        }
        if kind == "distance":
            made = DISTANCES[data.draw(st.sampled_from(sorted(DISTANCES)))]()
            if _takes(memvir, made):
                memvir.distance = made
        else:
            setattr(memvir, kind, before[1][kind] * data.draw(st.floats(0.8, 1.2)))
    compare(memvir, naive, case, batches(9, 5))


@pytest.mark.parametrize("sparse", ["snapshot_every", "class_weights_every"])
@pytest.mark.parametrize("case", WITH_NUMBERS, ids=names)
def test_within_a_stretch_and_back_and_for_good(case, sparse):
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 3, **{sparse: 4})
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 3, **{sparse: 4})
    name = number_of(memvir.loss)
    before = getattr(memvir.loss, name)
    for step, one in enumerate(batches(0, 28)):
        is_changed = step % 4 in (1, 2) or step >= 13
        setattr(memvir, name, before * 1.1 if is_changed else before)
        compare(memvir, naive, case, [one])


def _takes(memvir, distance):
    """Whether the loss itself can be computed with it."""
    loss = copy.deepcopy(memvir.loss)
    loss.distance = distance
    try:
        return bool(loss(*batches(5, 1)[0]).isfinite())
    except (ValueError, AssertionError, RuntimeError):
        return False


@pytest.mark.parametrize("first", sorted(DISTANCES))
@pytest.mark.parametrize("second", sorted(DISTANCES))
@pytest.mark.parametrize(
    "name",
    ["ArcFaceLoss", "NormalizedSoftmaxLoss", "ProxyAnchorLoss", "SoftTripleLoss"],
)
def test_another_distance(name, first, second):
    case = BY_NAME[name]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 0)
    for key in (first, second):
        if not _takes(memvir, DISTANCES[key]()):
            pytest.skip(f"{name} takes no distance {key!r}")
    memvir.distance = DISTANCES[first]()
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    generator = torch.Generator().manual_seed(0)
    some = [batch(generator, 5, unit=False) for _ in range(10)]
    compare(memvir, naive, case, some[:4])
    memvir.distance = DISTANCES[second]()
    compare(memvir, naive, case, some[4:])


def test_a_loss_of_another_class_takes_the_memory_over():
    """Class weights of both have unit length, so that numbers are made anew."""
    arcface, cosface = BY_NAME["ArcFaceLoss"], BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(arcface.loss(), 2, 0)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    compare(memvir, naive, arcface, batches(0, 4))
    memvir.loss = cosface.loss()
    compare(memvir, naive, cosface, batches(1, 4))
    assert memvir.num_emptied == 0 and memvir.num_renewed == 1


def test_what_lengths_are_needed_for_empties_the_memory_once():
    memvir = MemVir(own.NormSoftmax(NUM_CLASSES, EMBEDDING_SIZE).double(), 2, 0)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    compare(memvir, naive, BY_NAME["NormSoftmax"], batches(0, 4))
    memvir.loss = own.Softmax(NUM_CLASSES, EMBEDDING_SIZE).double()
    with pytest.warns(UserWarning, match="class weights at unit length .*as they were"):
        memvir(*batches(1, 1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memvir(*batches(1, 1)[0])
    assert memvir.num_emptied == 1 and memvir.num_virtual_steps == 1


def test_from_concatenation_to_a_fast_algorithm_and_back():
    case = BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 0)
    handle = memvir.loss.register_forward_hook(lambda *_: None)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    compare(memvir, naive, case, batches(0, 4))
    assert memvir.algorithm_used == "concatenation"
    handle.remove()
    compare(memvir, naive, case, batches(1, 4))
    assert memvir.algorithm_used == "row_softmax" and memvir.num_emptied == 0
    memvir.loss.register_forward_hook(lambda *_: None)
    compare(memvir, naive, case, batches(2, 4))
    assert memvir.num_emptied == 1


def test_other_centers_of_as_many_class_weights():
    case = BY_NAME["SubCenterArcFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.make(6).double(), 2, 0)
    for x, y in batches(0, 3):
        memvir(x, y)
    memvir.loss.sub_centers = memvir.loss.num_classes = 3
    memvir.loss.num_classes = 4
    with pytest.warns(UserWarning, match="6 classes of 2 centres, the loss now has 4"):
        memvir(batches(1, 1)[0][0], torch.tensor([0, 1, 2, 3, 3]))


def test_a_checkpoint_of_another_distance():
    case = BY_NAME["SoftTripleLoss"]

    def made(key):
        torch.manual_seed(0)
        memvir = MemVir(case.loss(), 2, 0)
        memvir.distance = DISTANCES[key]()
        return memvir

    source, raw, unit = made("product"), made("product"), made("cosine")
    for x, y in batches(0, 4):
        source(x, y)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    compare(raw, naive, case, batches(0, 4))
    unit.load_state_dict(raw.state_dict())
    compare(unit, naive, case, batches(1, 5))
    assert unit.num_emptied == 0
    raw.load_state_dict(unit.state_dict())
    with pytest.warns(UserWarning, match="embeddings at unit length"):
        raw(*batches(1, 1)[0])


@pytest.mark.parametrize("case", CASES, ids=names)
def test_notes_depend_on_every_plain_setting(case):
    """And vectors depend on nothing but what the memory's form says."""
    loss, planner = case.loss(), Planner("auto", None)
    if planner(loss).kernel is None:
        pytest.skip(f"{case.name} has no kernel")
    number, form = planner(loss).settings, planner(loss).form
    plain = [n for n, v in vars(loss).items() if type(v) in (float, int) and v]
    for name in (n for n in plain if "centers" not in n):  # which the weights fix
        before = getattr(loss, name)
        setattr(loss, name, before * 2)
        assert planner(loss).settings != number, name
        assert planner(loss).form.embeddings == form.embeddings, name
        assert planner(loss).form.class_weights == form.class_weights, name
        setattr(loss, name, before)
    assert planner(loss).settings == number and planner(loss).form == form
    loss.distance.normalize_embeddings ^= True
    assert planner(loss).settings != number


def test_names_of_losses_of_pml_have_not_changed():
    """Numbers of NUMBERS are settings that there are."""
    made = [case.loss() for case in CASES] + [losses.ProxyNCALoss(2, 2)]
    assert all(any(hasattr(loss, name) for loss in made) for name in NUMBERS)


def test_a_renewal_that_was_interrupted_is_done_again(monkeypatch):
    """Also if the settings are by then what they were before it."""
    case = BY_NAME["CosFaceLoss"]
    torch.manual_seed(0)
    memvir = MemVir(case.loss(), 2, 0)
    naive = NaiveMemVir(None, NUM_CLASSES, 2, 0)
    compare(memvir, naive, case, batches(0, 4))
    before, lse = memvir.margin, notes.lse
    with monkeypatch.context() as patch:

        def stop_behind(*arguments):
            stop_behind.calls += 1
            if stop_behind.calls > 1:
                raise KeyboardInterrupt
            return lse(*arguments)

        stop_behind.calls = 0
        patch.setattr(notes, "lse", stop_behind)
        memvir.margin = before * 1.5
        with pytest.raises(KeyboardInterrupt):
            memvir(*batches(1, 1)[0])
    assert memvir.step == 4 and memvir.num_renewed == 0
    memvir.margin = before
    compare(memvir, naive, case, batches(2, 5))
    assert memvir.num_renewed == 1
