"""Whether configs can run: everything is built, nothing is trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config import Config, ConfigError
from ..config.building import build, split_spec
from ..config.registry import find
from .sanity import check_images
from .trial import Trial, build_trial, num_folds

WEIGHTS = ("weights", "checkpoint")
IMAGE_SIZE = 64
UNKNOWN = "-"


@dataclass
class Findings:
    """One config's; each field is "ok", says what is wrong, or is UNKNOWN."""

    name: str
    builds: str
    data: str
    weights: str

    @property
    def ready(self) -> bool:
        return self.builds == self.data == self.weights == "ok"


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
    """Checks configs one after the other; what they share is checked once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self._known: dict[str, str] = {}

    def check(self, config: Config) -> Findings:
        """Build it with stand-ins for data and weights, then look for these."""
        builds = _outcome(lambda: self._build(config))
        if builds != "ok":
            return Findings(config.experiment_name, builds, UNKNOWN, UNKNOWN)
        return Findings(
            config.experiment_name,
            builds,
            self._once(
                # All that is built of the data, losses and optimizers aside.
                (
                    config.dataset,
                    config.transforms,
                    config.split_manager,
                    config.sampler,
                    config.trainer,
                    config.tester,
                    config.models,
                ),
                lambda: self._build(config, real=True),
            ),
            self._once(
                config.models.get("trunk"),
                lambda: build("trunk", config.models.get("trunk"), "models.trunk"),
            ),
        )

    def _build(self, config: Config, real: bool = False) -> None:
        name, _ = split_spec(config.dataset, "dataset")
        dataset_class: Any = find("dataset", name, "dataset")

        def stand_in(split: str, arguments: dict[str, Any], transform: Any) -> StandIn:
            return StandIn(dataset_class.PUBLISHED, split, transform)

        folds = num_folds(config)
        trial = build_trial(
            _without_weights(config),
            config.seeds[0],
            None if folds is None else 0,
            None,
            self.device,
            None if real else stand_in,
        )
        if real:
            check_images(trial.splits)
        else:
            forward(trial)

    def _once(self, spec: Any, action: Any) -> str:
        key = repr(spec)
        if key not in self._known:
            self._known[key] = _outcome(action)
        return self._known[key]


def forward(trial: Trial) -> None:
    """Two training images through the network and the losses, in eval mode."""
    of_class = {label: i for i, label in enumerate(trial.splits.train.labels)}
    chosen = (of_class[0], of_class[max(of_class)])
    images, labels = zip(*(trial.splits.train[i] for i in chosen))
    for module in (*trial.models.values(), *trial.loss_funcs.values()):
        module.eval()
    batch = torch.stack(images).to(trial.device)
    with torch.no_grad():
        embeddings = trial.models["embedder"](trial.models["trunk"](batch))
        for key, loss in trial.loss_funcs.items():
            try:
                value = loss(embeddings, torch.tensor(labels, device=trial.device))
            except (RuntimeError, ValueError, IndexError) as error:
                raise ConfigError(f"loss_funcs.{key}: {error}") from error
            if not torch.isfinite(value):
                raise ConfigError(f"loss_funcs.{key}: the loss of a batch is {value}")


def _without_weights(config: Config) -> Config:
    models = copy.deepcopy(config.models)
    name, arguments = split_spec(models.get("trunk"), "models.trunk")
    kept = {k: v for k, v in arguments.items() if k not in WEIGHTS}
    models["trunk"] = {name: kept}
    return replace(config, models=models)


def _outcome(action: Any) -> str:
    try:
        action()
    except ConfigError as error:
        return str(error)
    except Exception as error:  # one config's must not hide the others'
        return f"{type(error).__name__}: {error}"
    return "ok"
