"""Cross-validation's second accuracy: the folds' embeddings, concatenated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..files import write_text
from .checkpoint import load_models
from .history import History
from .hooks import accuracies
from .trial import Evaluator, build_evaluator

FILE_NAME = "concatenated.json"
SELECTIONS = ("last", "best_on_validation")


class Concatenated(torch.nn.Module):
    """Images to the embeddings of all folds' models, side by side."""

    def __init__(self, folds: list[Evaluator]) -> None:
        super().__init__()
        self.trunks = torch.nn.ModuleList(of.models["trunk"] for of in folds)
        self.embedders = torch.nn.ModuleList(of.models["embedder"] for of in folds)
        self.normalize = folds[0].tester.maybe_normalize

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.trunks, self.embedders)
        parts = [self.normalize(embed(trunk(images))) for trunk, embed in pairs]
        return torch.cat(parts, dim=1)


def evaluate(
    config: Config, seed: int, folds: int, folder: Path, device: torch.device
) -> None:
    seed_folder = folder / f"seed{seed}"
    path = seed_folder / FILE_NAME
    if path.exists() or not _models_are_kept(seed_folder, folds):
        return
    of_folds = [build_evaluator(config, seed, fold, device) for fold in range(folds)]
    *_, (query, references) = of_folds[0].splits.to_evaluate
    splits = replace(of_folds[0].splits, to_evaluate=[(query, references)])
    together = {"trunk": Concatenated(of_folds), "embedder": torch.nn.Identity()}
    result: dict[str, Any] = {"format": 1}
    for selection in SELECTIONS:
        for fold, of in enumerate(of_folds):
            load_models(of.models, seed_folder / f"fold{fold}", selection)
        joined = Evaluator(splits, together, of_folds[0].tester)
        result[selection] = accuracies(joined, 0)[query]
    write_text(path, json.dumps(result, indent=1) + "\n")


def _models_are_kept(seed_folder: Path, folds: int) -> bool:
    for fold in range(folds):
        folder = seed_folder / f"fold{fold}"
        history = History.load(folder)
        if history is None or not history.finished:
            return False
        if not any((folder / "models").glob("trunk_*.pth")):
            return False
    return True
