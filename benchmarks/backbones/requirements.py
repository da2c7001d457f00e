"""Packages that only some backbones need."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, backbone: str, install: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: its name when imported.
        backbone: what needs it.
        install: the command that installs it.

    Raises:
        ImportError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{backbone} needs {module}, which cannot be imported ({error}): {install}"
        ) from error
