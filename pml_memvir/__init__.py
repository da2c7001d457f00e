"""MemVir: memory-based virtual classes for pytorch-metric-learning."""

from . import losses
from .class_weights import register_loss
from .memvir import MemVir
from .warmup import epochs_to_steps

__version__ = "0.1.0"

__all__ = ["MemVir", "epochs_to_steps", "losses", "register_loss"]
