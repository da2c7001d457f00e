"""A wrapper that lends out its inner loss's public attributes."""

from __future__ import annotations

from typing import Any

import torch


class InnerLossAttributes(torch.nn.Module):
    """Reads and sets the public attributes of `self.loss` that it has not itself.

    So `wrapper.W`, `wrapper.distance`, `wrapper.get_logits(x)` and `wrapper.margin = m`
    do what they do on the loss. Private names are left alone, and so is `module`: with
    it, record-keeper and others would take the wrapper for DataParallel.
    """

    loss: torch.nn.Module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if _is_private(name):
                raise
        return getattr(self.loss, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("_modules", {}).get("loss")
        mine = _is_private(name) or name in self.__dict__ or hasattr(type(self), name)
        if inner is not None and not mine and hasattr(inner, name):
            setattr(inner, name, value)
        else:
            super().__setattr__(name, value)


def _is_private(name: str) -> bool:
    return name.startswith("_") or name in ("loss", "module")
