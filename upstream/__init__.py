"""The upstream kit: MemVir as a patch for pytorch-metric-learning (PML) itself.

`python -m upstream` makes the patch from `pml_memvir/` and tries it on a fresh copy of
PML; README.md, beside this file, tells what is in it.
"""

from __future__ import annotations


class KitError(Exception):
    """A message for the user: what was expected, what is there, what to do."""
