"""Whether configs can run: each is rehearsed, and what it needs looked for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config import Config
from ..config.building import WEIGHTS, build, split_spec
from ..config.errors import in_words
from ..config.registry import find
from ..errors import Mistake
from .data import make_splits
from .models import network
from .rehearsal import rehearse
from .sanity import check_images
from .trial import num_folds

IMAGE_SIZE = 64


@dataclass
class Findings:
    """One config's; each field is "ok", or says what is wrong.

    Attributes:
        idle: that MemVir would have no virtual classes, or "".
    """

    name: str
    builds: str
    data: str
    weights: str
    idle: str = ""

    @property
    def cells(self) -> tuple[str, str, str]:
        return self.builds, self.data, self.weights

    @property
    def ready(self) -> bool:
        return {*self.cells} == {"ok"}


class StandIn:
    """Noise with the labels of a data set that is not there.

    Numbers of classes and images are the published ones, else 40 classes of 10.
    """

    def __init__(self, published: dict[str, Any], split: str, transform: Any) -> None:
        classes, images = published.get(split, (40, 400))
        first = 0 if split == "train" else 10**6
        self.labels = [first + i % classes for i in range(images)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        noise = np.random.RandomState(index).randint(
            0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8
        )
        return self.transform(Image.fromarray(noise)), self.labels[index]


class Checker:
    """Checks configs one after the other; what they share is looked for once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self._known: dict[str, str] = {}

    def check(self, config: Config) -> Findings:
        """Look for data and weights, then rehearse with them, or with stand-ins."""
        weights, data = self.look_for_weights(config), self.look_for_data(config)
        idle: list[str] = []
        all_there = weights == data == "ok"
        builds = _outcome(lambda: idle.append(self._rehearse(config, all_there)))
        return Findings(config.experiment_name, builds, data, weights, *idle)

    def look_for_weights(self, config: Config) -> str:
        """Whether there are the trunk's."""
        trunk = config.models.get("trunk")
        return self._once(trunk, lambda: build("trunk", trunk, "models.trunk"))

    def look_for_data(self, config: Config) -> str:
        """Whether there are the splits, and their first images can be read."""

        def look() -> None:
            trunk = network(_without_weights(config), torch.device("cpu"))["trunk"]
            fold = None if num_folds(config) is None else 0
            check_images(make_splits(config, trunk.preprocessing, fold))

        parts = (config.dataset, config.transforms, config.split_manager)
        return self._once((*parts, config.models), look)

    def _rehearse(self, config: Config, all_there: bool) -> str:
        fold = None if num_folds(config) is None else 0
        if not all_there:
            config = _without_weights(config)
        if all_there or self.look_for_data(config) == "ok":
            return rehearse(config, fold, self.device)[1]
        name, _ = split_spec(config.dataset, "dataset")
        dataset_class: Any = find("dataset", name, "dataset")

        def stand_in(split: str, arguments: dict[str, Any], transform: Any) -> StandIn:
            return StandIn(dataset_class.PUBLISHED, split, transform)

        return rehearse(config, fold, self.device, stand_in)[1]

    def _once(self, spec: Any, action: Any) -> str:
        key = repr(spec)
        if key not in self._known:
            self._known[key] = _outcome(action)
        return self._known[key]


def _without_weights(config: Config) -> Config:
    models = copy.deepcopy(config.models)
    name, arguments = split_spec(models.get("trunk"), "models.trunk")
    kept = {k: v for k, v in arguments.items() if k not in WEIGHTS}
    models["trunk"] = {name: kept}
    return replace(config, models=models)


def _outcome(action: Any) -> str:
    try:
        action()
    except Mistake as error:
        return str(error)
    except Exception as error:  # one config's must not hide the others'
        return f"{type(error).__name__}: {in_words(error)}"
    return "ok"
