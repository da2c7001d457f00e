"""What `MemVir.virtual_classes` returns, where it can be imported from."""

from .core.snapshots import Snapshots

__all__ = ["Snapshots"]
