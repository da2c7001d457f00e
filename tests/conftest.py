"""Fixtures for all tests."""

import io

import pytest
import torch
from rich.console import Console

from benchmarks.datasets import Glyphs
from benchmarks.datasets.cars import Cars196
from benchmarks.datasets.cub import CUB200
from benchmarks.datasets.inshop import InShop
from benchmarks.datasets.sop import StanfordOnlineProducts
from benchmarks.demo import to_tensor
from pml_memvir import class_weights as c_w

from . import small_archives as small
from .pml_runs import FewGlyphs


@pytest.fixture(autouse=True)
def seed():
    """No test depends on those before it."""
    torch.manual_seed(0)


@pytest.fixture
def forget_registrations(monkeypatch):
    monkeypatch.setattr(c_w, "_LAYOUTS", dict(c_w._LAYOUTS))


@pytest.fixture(scope="module")
def one_thread():
    """Small networks train faster so, and the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def glyphs_root(tmp_path_factory):
    """A folder in which Glyphs is rendered once for all tests."""
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(params=["auto", "concatenation"])
def algorithm(request):
    """Every way to compute the loss."""
    return request.param


@pytest.fixture(scope="session")
def train_set(glyphs_root):
    return FewGlyphs(Glyphs(glyphs_root, "train", transform=to_tensor))


@pytest.fixture(scope="session")
def test_set(glyphs_root):
    return FewGlyphs(Glyphs(glyphs_root, "test", transform=to_tensor))


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def small_counts(monkeypatch):
    """What the small archives have, as if it were what is published."""
    both = {"train": (2, 4), "test": (2, 4)}
    monkeypatch.setattr(CUB200, "PUBLISHED", both)
    monkeypatch.setattr(StanfordOnlineProducts, "PUBLISHED", both)
    monkeypatch.setattr(Cars196, "PUBLISHED", {"train": (2, 4), "test": (2, 2)})
    inshop = {"train": (2, 3), "query": (2, 2), "gallery": (2, 3)}
    monkeypatch.setattr(InShop, "PUBLISHED", inshop)


@pytest.fixture
def cub(tmp_path, small_counts):
    return small.write_files(tmp_path / "cub", small.cub())
