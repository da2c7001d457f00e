"""Fixtures for all tests."""

import gc
import io
import os
import random
import sqlite3

import numpy as np
import pytest
import torch
from rich.console import Console

from pml_memvir.pml import specs as c_w

if "PYTEST_XDIST_WORKER" in os.environ:  # others are at work beside it
    torch.set_num_threads(1)

# What is of the benchmarks is imported where it is used: a fault in them is not to stop
# the tests of the package.


def pytest_collection_finish():
    """What is loaded stays: looking through it again and again would take minutes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def no_waiting():
    """Files of tests need not outlast a power cut, and their garbage is small."""
    connect = sqlite3.connect

    def connected(*arguments, **named):
        connection = connect(*arguments, **named)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite3, sqlite3.dbapi2):
            patch.setattr(module, "connect", connected)
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(gc, "collect", lambda generation=2: 0)
        yield


@pytest.fixture(autouse=True)
def same_random_state():
    """Before each test, so that none depends on those before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def forget_registrations(monkeypatch):
    monkeypatch.setattr(c_w, "SPECS", dict(c_w.SPECS))


@pytest.fixture(scope="module")
def one_thread():
    """Small networks train faster so, and the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def glyphs_root(tmp_path_factory):
    """A folder in which Glyphs is rendered once for all tests, side by side or not."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "glyphs"


@pytest.fixture(params=["auto", "concatenation"])
def algorithm(request):
    """Every way to compute the loss."""
    return request.param


@pytest.fixture(scope="session")
def train_set(glyphs_root):
    from .pml_runs import few_glyphs

    return few_glyphs(glyphs_root, "train")


@pytest.fixture(scope="session")
def test_set(glyphs_root):
    from .pml_runs import few_glyphs

    return few_glyphs(glyphs_root, "test")


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def small_counts(monkeypatch):
    """What the small archives have, as if it were what is published."""
    from benchmarks.datasets import cars, cub, inshop, sop

    both = {"train": (2, 4), "test": (2, 4)}
    monkeypatch.setattr(cub.CUB200, "PUBLISHED", both)
    monkeypatch.setattr(sop.StanfordOnlineProducts, "PUBLISHED", both)
    monkeypatch.setattr(cars.Cars196, "PUBLISHED", {"train": (2, 4), "test": (2, 2)})
    three = {"train": (2, 3), "query": (2, 2), "gallery": (2, 3)}
    monkeypatch.setattr(inshop.InShop, "PUBLISHED", three)


@pytest.fixture
def cub(tmp_path, small_counts):
    from . import small_archives as small

    return small.write_files(tmp_path / "cub", small.cub())
