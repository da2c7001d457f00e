"""`${a.b}` in configs: other values of the same config, and nothing from outside."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import ConfigError

REFERENCE = re.compile(r"\$\{\s*[\w.\[\]]+\s*\}")


def refuse_resolvers(values: Any, where: str = "") -> None:
    """Refuse `${oc.env:NAME}` and its like, at any level.

    Configs come from others, and what is resolved is written into reports: a name of
    the environment would publish its secret.

    Raises:
        ConfigError: something else than a value of the same config is asked for.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            refuse_resolvers(value, f"{where}.{key}" if where else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            refuse_resolvers(value, f"{where}[{index}]")
    elif isinstance(values, str) and "${" in REFERENCE.sub("", values):
        raise ConfigError(
            f"{where}: {values!r}: only values of the config itself can be referred "
            "to, as ${a.b}; write what is meant, or give it on the command line"
        )


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    """The values with each reference replaced by what it refers to.

    Raises:
        ConfigError: a reference leads nowhere, in a circle, or outside of the config.
    """
    refuse_resolvers(values)
    try:
        found = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    assert isinstance(found, dict)  # for the type checker
    return {str(key): value for key, value in found.items()}
