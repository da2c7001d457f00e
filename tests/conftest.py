"""Fixtures for all tests."""

import pytest

from pml_memvir import class_weights as c_w


@pytest.fixture
def forget_registrations(monkeypatch):
    monkeypatch.setattr(c_w, "_LAYOUTS", dict(c_w._LAYOUTS))


@pytest.fixture(scope="session")
def glyphs_root(tmp_path_factory):
    """A folder in which Glyphs is rendered once for all tests."""
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(params=["auto", "concatenation"])
def algorithm(request):
    """Every way to compute the loss."""
    return request.param
