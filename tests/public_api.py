"""Public names and signatures, as text: `python -m tests.public_api` prints them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

MODULES = ("pml_memvir", "pml_memvir.losses", "pml_memvir.hook_container")
# What the documentation names besides: an error, and what a method returns.
OTHERS = (
    ("pml_memvir.checkpoints", "CheckpointError"),
    ("pml_memvir.snapshots", "Snapshots"),
)


def api() -> str:
    """A line a name; what a class inherits from PML or PyTorch is left out."""
    lines = [line for name in MODULES for line in _of_module(name)]
    for module, name in OTHERS:
        cls = getattr(importlib.import_module(module), name)
        lines += _of_class(cls, f"{module}.{name}")
    return "\n".join(lines) + "\n"


def _of_module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    for public in sorted(module.__all__):
        thing = getattr(module, public)
        if inspect.ismodule(thing):
            yield f"{name}.{public} (module)"
        elif inspect.isclass(thing):
            yield from _of_class(thing, f"{name}.{public}")
        else:
            yield f"{name}.{public}{inspect.signature(thing)}"


def _of_class(cls: type, name: str) -> Iterator[str]:
    own = next(b for b in cls.__mro__ if "__init__" in vars(b)).__module__
    arguments = inspect.signature(cls) if own.startswith("pml_memvir") else ""
    yield f"class {name}{arguments}"
    for public in sorted(n for n in dir(cls) if not n.startswith("_")):
        owner = next(base for base in cls.__mro__ if public in vars(base))
        if not owner.__module__.startswith("pml_memvir"):
            continue
        yield f"    {_described(vars(owner)[public], public)}"


def _described(member: Any, name: str) -> str:
    if isinstance(member, property):
        return f"{name} (property{'' if member.fset is None else ', can be set'})"
    if isinstance(member, (classmethod, staticmethod)):
        return f"{name}{inspect.signature(member.__func__)} ({type(member).__name__})"
    return f"{name}{inspect.signature(member)}" if callable(member) else name


if __name__ == "__main__":
    print(api(), end="")
