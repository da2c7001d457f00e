"""MemVir, memory-based virtual classes around a softmax or proxy loss.

On a version of torch or Python that is too old for it, this module can be imported and
MemVir says so where it is constructed: the rest of the library does not depend on it.
"""

import sys

import torch

MINIMUM_TORCH = (2, 1)
MINIMUM_PYTHON = (3, 9)


def _too_old():
    """What is too old, or nothing."""
    found = {
        "torch": (MINIMUM_TORCH, torch.__version__),
        "Python": (MINIMUM_PYTHON, "{}.{}".format(*sys.version_info)),
    }
    return [
        "{} >= {}, got {}".format(name, ".".join(map(str, least)), version)
        for name, (least, version) in found.items()
        if tuple(int(part) for part in version.split(".")[:2]) < least
    ]


IS_SUPPORTED = not _too_old()

if IS_SUPPORTED:
    from .memvir import MemVir
    from .pml.specs import register_loss
else:

    def register_loss(*args, **kwargs):
        raise ImportError("MemVir needs " + " and ".join(_too_old()))

    class MemVir(torch.nn.Module):
        """Raises ImportError: torch or Python is too old for MemVir."""

        def __init__(self, *args, **kwargs):
            register_loss()
