"""Data sets of the benchmarks."""

from .glyphs import Glyphs

__all__ = ["Glyphs"]
