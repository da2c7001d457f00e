"""ResNets (He et al., 2016) from torchvision, without the classifier."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .layers import GlobalPooling
from .preprocessing import IMAGENET
from .weights import at_most_one_source, load_checkpoint, require

CLASSIFIER = ("fc.",)


def _resnet(name: str) -> Callable[..., nn.Module]:
    def make(
        weights: str | None = None, checkpoint: str | None = None, pooling: str = "avg"
    ) -> nn.Module:
        """(B, 3, H, W) to (B, 512), or (B, 2048) from ResNet-50 on.

        Args:
            weights: a name of torchvision's, such as "IMAGENET1K_V1", which are
                downloaded into PyTorch's cache; default random.
            checkpoint: a file instead; names of layers are torchvision's.
            pooling: "avg", "max" or "avg+max".

        Raises:
            ImportError: torchvision is missing.
            ValueError: weights or pooling are unknown, cannot be had or do not fit.
        """
        at_most_one_source(weights, checkpoint)
        pool = GlobalPooling(pooling)
        models = require("torchvision.models", name, "pip install -e .[bench]")
        if weights is not None:
            known = models.get_model_weights(name).__members__
            if weights not in known:
                raise ValueError(
                    f"weights of {name} must be one of {', '.join(known)}, "
                    f"got {weights!r}"
                )
            checkpoint = _downloaded(known[weights], name)
        model = models.get_model(name, weights=None)
        model.output_size = model.fc.in_features
        model.preprocessing = IMAGENET
        model.avgpool = pool
        model.fc = nn.Identity()
        load_checkpoint(model, checkpoint, ignore=CLASSIFIER)
        return model

    make.__name__ = make.__qualname__ = name
    return make


resnet18, resnet34, resnet50, resnet101 = map(
    _resnet, ("resnet18", "resnet34", "resnet50", "resnet101")
)


def _downloaded(weights: Any, name: str) -> str:
    """The file in PyTorch's cache, downloaded where it is not there yet.

    Not by torchvision's own function, which would unpickle whatever is in the file.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(weights.url)
    digest = re.search(r"-([0-9a-f]+)\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.hub.download_url_to_file(
                weights.url, str(path), digest and digest[1], progress=False
            )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ValueError(
            f"weights {weights.name} of {name} cannot be downloaded from {weights.url} "
            f"({error}): fetch that file in another way and give its path as checkpoint"
        ) from error
    return str(path)
