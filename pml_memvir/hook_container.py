"""PML's HookContainer, with checkpoints that survive a kill at any moment."""

from .pml.hook_container import (
    SafeHookContainer,
    random_states,
    set_random_states,
    write_atomically,
)

__all__ = [
    "SafeHookContainer",
    "random_states",
    "set_random_states",
    "write_atomically",
]
