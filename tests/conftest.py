"""Fixtures for all tests."""

import pytest

from pml_memvir import class_weights as c_w


@pytest.fixture
def forget_registrations(monkeypatch):
    monkeypatch.setattr(c_w, "_LAYOUTS", dict(c_w._LAYOUTS))
