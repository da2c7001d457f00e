"""Optimizers of a config, one for each model and loss that has parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import torch

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from ..config.errors import suggest

SCHEDULERS = {
    "scheduler": "by_epoch",
    "scheduler_by_epoch": "by_epoch",
    "scheduler_by_iteration": "by_iteration",
    "scheduler_by_plateau": "by_plateau",
}
CLIP = "clip_grad_norm"


def build_optimizers(
    config: Config, modules: Mapping[str, torch.nn.Module], frozen: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Optimizers, schedulers and gradient clippers, as PML's trainers take them.

    Schedulers and `clip_grad_norm` are written among an optimizer's arguments.

    Args:
        modules: models and losses by name.
        frozen: names of those that need no optimizer.

    Raises:
        ConfigError: among others, a module has parameters and no optimizer.
    """
    optimizers: dict[str, Any] = {}
    schedulers: dict[str, Any] = {}
    clippers: dict[str, Any] = {}
    known = [f"{name}_optimizer" for name in modules]
    for key, spec in config.optimizers.items():
        where = f"optimizers.{key}"
        if key not in known:
            raise ConfigError(f"optimizers: unknown key {key!r}{suggest(key, known)}")
        name = key.removesuffix("_optimizer")
        parameters = [p for p in modules[name].parameters() if p.requires_grad]
        if not parameters:
            raise ConfigError(f"{where}: {name} has no parameters; delete it")
        class_name, arguments = split_spec(spec, where)
        own = {k: v for k, v in arguments.items() if k not in (*SCHEDULERS, CLIP)}
        optimizer = build(
            "optimizer", {class_name: own}, where, given={"params": parameters}
        )
        optimizers[key] = optimizer
        where = f"{where}.{class_name}"
        for argument, kind in SCHEDULERS.items():
            if arguments.get(argument):
                scheduler = f"{name}_scheduler_{kind}"
                if scheduler in schedulers:
                    raise ConfigError(f"{where}: {argument} is given twice")
                schedulers[scheduler] = _scheduler(
                    arguments[argument], f"{where}.{argument}", kind, optimizer
                )
        if arguments.get(CLIP) is not None:
            norm = arguments[CLIP]
            if type(norm) not in (int, float) or not norm > 0:
                raise ConfigError(f"{where}.{CLIP} must be > 0, got {norm!r}")
            clip = torch.nn.utils.clip_grad_norm_
            clippers[f"{name}_grad_clipper"] = partial(clip, parameters, norm)
    for name, module in modules.items():
        key = f"{name}_optimizer"
        if name in frozen or key in optimizers:
            continue
        if any(p.requires_grad for p in module.parameters()):
            raise ConfigError(
                f"{name} ({type(module).__name__}) has parameters and no optimizer: "
                f"add optimizers.{key}, such as {key}: {{Adam: {{lr: 0.01}}}}"
            )
    return optimizers, schedulers, clippers


def _scheduler(spec: Any, where: str, kind: str, optimizer: Any) -> Any:
    """A scheduler; one by plateau watches an accuracy, which is better when higher."""
    plateau = kind == "by_plateau"
    name, arguments = split_spec(spec, where)
    if plateau:
        arguments = {"mode": "max", **arguments}
        if arguments["mode"] != "max":
            raise ConfigError(f"{where}.{name}.mode must be max: it sees an accuracy")
    built = build("scheduler", {name: arguments}, where, given={"optimizer": optimizer})
    needs_accuracy = isinstance(built, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if needs_accuracy != plateau:
        raise ConfigError(
            f"{where}: ReduceLROnPlateau, and no other, goes to scheduler_by_plateau"
        )
    return built
