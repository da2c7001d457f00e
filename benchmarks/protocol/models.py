"""Trunk, embedder and classifiers of a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from ..config.errors import suggest

CLASSIFIER = re.compile(r"classifier(_\d+)?")
KNOWN = ("trunk", "embedder", "classifier", "classifier_0")
CASCADED = "CascadedEmbeddings"
PART = re.compile(r"(?:metric_loss|classifier)_(\d+)")


def network(config: Config, device: torch.device) -> dict[str, torch.nn.Module]:
    """Trunk and embedder."""
    if "trunk" not in config.models:
        raise ConfigError("models needs a trunk")
    for key in config.models:
        if key not in KNOWN and not CLASSIFIER.fullmatch(key):
            raise ConfigError(f"models: unknown key {key!r}{suggest(key, KNOWN)}")
    trunk = build("trunk", config.models["trunk"], "models.trunk")
    embedder = build(
        "embedder",
        config.models.get("embedder", "Identity"),
        "models.embedder",
        fill={"in_features": trunk.output_size},
    )
    return {"trunk": trunk.to(device), "embedder": embedder.to(device)}


def embedding_size(models: Mapping[str, Any], device: torch.device) -> int:
    """What the embedder makes of the trunk's output."""
    embedder = models["embedder"].eval()
    features = torch.zeros(2, models["trunk"].output_size, device=device)
    with torch.no_grad():
        size: int = embedder(features).shape[1]
    embedder.train()
    return size


def classifiers(
    config: Config, fill: Mapping[str, Any], device: torch.device
) -> dict[str, torch.nn.Module]:
    """What TrainWithClassifier and CascadedEmbeddings put behind the embedding."""
    found = {}
    for key, spec in config.models.items():
        if not CLASSIFIER.fullmatch(key):
            continue
        size = size_for(config, key, fill["embedding_size"])
        sizes = {"in_features": size, "out_features": fill["num_classes"]}
        built = build("embedder", spec, f"models.{key}", fill=sizes)
        found[key] = built.to(device)
    return found


def size_for(config: Config, key: str, size: int) -> int:
    """How many numbers of the embedding a loss or classifier sees.

    Raises:
        ConfigError: the trainer cuts embeddings into fewer parts, or not into this one.
    """
    name, arguments = split_spec(config.trainer, "trainer")
    part = PART.fullmatch(key)
    if name != CASCADED or part is None:
        return size
    sizes, where = arguments.get("embedding_sizes"), f"trainer.{name}.embedding_sizes"
    if not isinstance(sizes, list) or any(type(s) is not int or s < 1 for s in sizes):
        raise ConfigError(
            f"{where} must say how long each part of the embedding is, such as "
            f"{[size // 2, size - size // 2]}, got {sizes!r}"
        )
    if sum(sizes) != size:
        raise ConfigError(
            f"{where} must sum up to {size}, which the embedder makes; got {sizes}"
        )
    if int(part[1]) >= len(sizes):
        raise ConfigError(f"{key}: {where} has {len(sizes)} parts, from 0 on: {sizes}")
    return sizes[int(part[1])]
