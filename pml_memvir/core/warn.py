"""Warnings that point at the user's line, however deep in the package they arise."""

from __future__ import annotations

import os
import sys
import warnings

import torch

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_NOT_THE_USERS = (_PACKAGE, os.path.dirname(torch.__file__))


def warn(message: str) -> None:
    """Issue a UserWarning of the first caller outside of this package and PyTorch."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
