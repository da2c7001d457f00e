"""Cross-validation's second accuracy: the folds' embeddings, concatenated.

Source: Musgrave et al., "A Metric Learning Reality Check", arXiv 2003.08505, section 3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..files import write_text
from .checkpoint import load_models
from .finite import NotFiniteError, are_finite
from .history import History
from .trial import build_evaluator

FILE_NAME = "concatenated.json"
SELECTIONS = ("last", "best_on_validation")


def evaluate(
    config: Config, seed: int, folds: int, folder: Path, device: torch.device
) -> None:
    """Test accuracy of a seed's fold models together; written beside the folds.

    Each model's embeddings are as in the tester, of unit length unless it does not
    normalise; so are the concatenated ones.
    """
    seed_folder = folder / f"seed{seed}"
    path = seed_folder / FILE_NAME
    if path.exists() or not _models_are_kept(seed_folder, folds):
        return
    result: dict[str, Any] = {"format": 1}
    for selection in SELECTIONS:
        result[selection] = _accuracies(config, seed, folds, folder, device, selection)
    write_text(path, json.dumps(result, indent=1) + "\n")


def _accuracies(
    config: Config,
    seed: int,
    folds: int,
    folder: Path,
    device: torch.device,
    selection: str,
) -> dict[str, float]:
    """By metric; all 0 if a fold's models are NaN or infinite, as its own are."""
    parts: dict[str, list[torch.Tensor]] = {}
    labels: dict[str, torch.Tensor] = {}
    for fold in range(folds):
        trial = build_evaluator(config, seed, fold, device)
        load_models(trial.models, folder / f"seed{seed}" / f"fold{fold}", selection)
        metrics = trial.tester.accuracy_calculator.get_curr_metrics()
        if not are_finite(trial.models.values()):
            return dict.fromkeys(metrics, 0.0)
        query, references = trial.splits.to_evaluate[-1]
        for split in dict.fromkeys([query, *references]):
            try:
                embeddings, labels[split] = trial.tester.get_all_embeddings(
                    trial.splits.evaluation[split],
                    trial.models["trunk"],
                    trial.models["embedder"],
                )
            except NotFiniteError:
                return dict.fromkeys(metrics, 0.0)
            parts.setdefault(split, []).append(embeddings)
    joined = {
        split: (
            trial.tester.maybe_normalize(torch.cat(of_folds, dim=1)),
            labels[split],
        )
        for split, of_folds in parts.items()
    }
    trial.tester.label_levels = [0]
    found: dict[str, float] = {}
    trial.tester.do_knn_and_accuracies(found, joined, query, references)
    return {m: float(found[trial.tester.accuracies_keyname(m)]) for m in metrics}


def _models_are_kept(seed_folder: Path, folds: int) -> bool:
    for fold in range(folds):
        folder = seed_folder / f"fold{fold}"
        history = History.load(folder)
        if history is None or not history.finished:
            return False
        if not any((folder / "models").glob("trunk_*.pth")):
            return False
    return True
