"""Fixtures for all tests."""

import pytest
import torch

from pml_memvir import class_weights as c_w


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
