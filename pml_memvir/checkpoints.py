"""The error of a checkpoint that does not fit, where it can be imported from."""

from .state.checkpoints import CheckpointError

__all__ = ["CheckpointError"]
