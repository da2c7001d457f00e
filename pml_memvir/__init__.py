"""MemVir: memory-based virtual classes for pytorch-metric-learning."""

from importlib.metadata import PackageNotFoundError, version

try:
    _pml = version("pytorch-metric-learning")
except PackageNotFoundError:  # it is there without having been installed
    _pml = "2"
if int(_pml.partition(".")[0]) > 2:
    raise ImportError(
        f"pml_memvir is for pytorch-metric-learning 2.9, and {_pml} is installed, "
        "whose losses have another interface: pip install "
        "'pytorch-metric-learning>=2.9,<3'"
    )

from . import losses  # noqa: E402
from .memvir import MemVir  # noqa: E402
from .pml.specs import register_loss  # noqa: E402
from .pml.warmup import epochs_to_steps  # noqa: E402

__version__ = "0.1.0"

__all__ = ["MemVir", "epochs_to_steps", "losses", "register_loss"]
