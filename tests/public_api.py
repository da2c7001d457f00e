"""Public names and signatures, as text: `python -m tests.public_api` prints them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

MODULES = ("pml_memvir", "pml_memvir.losses", "pml_memvir.hook_container")


def api() -> str:
    """A line a name; what a class inherits from PML or PyTorch is left out."""
    return "\n".join(line for name in MODULES for line in _of_module(name)) + "\n"


def _of_module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    for public in sorted(module.__all__):
        thing = getattr(module, public)
        if inspect.ismodule(thing):
            yield f"{name}.{public} (module)"
        elif inspect.isclass(thing):
            yield f"class {name}.{public}{inspect.signature(thing)}"
            yield from _of_class(thing, f"{name}.{public}")
        else:
            yield f"{name}.{public}{inspect.signature(thing)}"


def _of_class(cls: type, name: str) -> Iterator[str]:
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
