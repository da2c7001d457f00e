"""Which classes are for training, validation and testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Dataset

__all__ = ["ClassDisjointSplitManager", "PredefinedSplitManager"]

# From a split of the data set and a transform ("train" or "eval") to a data set.
MakeDataset = Callable[[str, str], Any]


class ClassSubset(Dataset):
    """The items of some classes.

    Args:
        dataset: with `labels`.
        classes: which to keep.
        renumber: labels become 0 to C-1, in the order of `classes`.
    """

    def __init__(
        self, dataset: Any, classes: Sequence[int], renumber: bool = False
    ) -> None:
        self.dataset = dataset
        labels = np.asarray(dataset.labels)
        self.indices = np.flatnonzero(np.isin(labels, list(classes))).tolist()
        new = {c: i if renumber else c for i, c in enumerate(classes)}
        self.labels = [new[label] for label in labels[self.indices].tolist()]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[self.indices[index]][0], self.labels[index]


@dataclass
class Splits:
    """What one trial trains and is evaluated on.

    `to_evaluate` is as PML's testers take it: (query split, [reference splits]);
    `left_out`: how many sets are not evaluated that `run` evaluates.
    """

    train: ClassSubset
    evaluation: dict[str, Any]
    to_evaluate: list[tuple[str, list[str]]]
    validation: str | None
    test: str
    left_out: int = 0

    @property
    def num_classes(self) -> int:
        return len(set(self.train.labels))

    def to_evaluate_copy(self) -> list[tuple[str, list[str]]]:
        """PML's tester changes the list that it is given."""
        return [(query, list(reference)) for query, reference in self.to_evaluate]

    def held_out_only(self) -> Splits:
        """Without the test set; there are validation classes."""
        assert self.validation is not None  # for the type checker
        return replace(
            self,
            evaluation={self.validation: self.evaluation[self.validation]},
            to_evaluate=[(self.validation, [self.validation])],
            left_out=len(self.evaluation) - 1,
        )


class PredefinedSplitManager:
    """The data set's own split: all training classes train, there is no validation."""

    num_folds: int | None = None

    def splits(self, make: MakeDataset, available: Sequence[str], fold: int) -> Splits:
        """The splits of a fold; `available` are the data set's own."""
        train = make("train", "train")
        classes = sorted(set(train.labels))
        test, to_evaluate = _own_test_sets(make, available)
        return Splits(
            ClassSubset(train, classes, renumber=True),
            test,
            to_evaluate,
            None,
            to_evaluate[0][0],
        )


class ClassDisjointSplitManager:
    """Cross-validation of "A Metric Learning Reality Check": folds share no class.

    The classes for training are cut, in their order, into partitions; fold f validates
    on partition f and trains on the others. Nothing of it touches the test classes.

    Args:
        num_training_partitions: number of partitions.
        num_training_sets: number of folds, at most that. One is a plain held-out set.
        test_size: fraction of all classes to test on, as in powerful-benchmarker;
            default: the data set's own test split.
        test_start_idx: where these start, as a fraction of the sorted classes; they go
            on from the first class after the last.
        shuffle: cut a permutation of the training classes.
        random_seed: of that permutation.

    Source: Musgrave et al., ECCV 2020, arXiv 2003.08505.
    """

    def __init__(
        self,
        num_training_partitions: int = 4,
        num_training_sets: int = 4,
        test_size: float | None = None,
        test_start_idx: float = 0.5,
        shuffle: bool = False,
        random_seed: int = 0,
    ) -> None:
        if not 2 <= num_training_partitions:
            raise ValueError(
                f"num_training_partitions must be >= 2, got {num_training_partitions}"
            )
        if not 1 <= num_training_sets <= num_training_partitions:
            raise ValueError(
                "num_training_sets must be from 1 to num_training_partitions "
                f"({num_training_partitions}), got {num_training_sets}"
            )
        if test_size is not None and not 0 < test_size < 1:
            raise ValueError(f"test_size must be between 0 and 1, got {test_size}")
        self.num_training_partitions = num_training_partitions
        self.num_folds: int | None = num_training_sets
        self.test_size = test_size
        self.test_start_idx = test_start_idx
        self.shuffle = shuffle
        self.random_seed = random_seed

    def splits(self, make: MakeDataset, available: Sequence[str], fold: int) -> Splits:
        """The splits of a fold; `available` are the data set's own."""
        if self.test_size is None:
            for_training, for_validation = make("train", "train"), make("train", "eval")
            classes = sorted(set(for_training.labels))
            test, to_evaluate = _own_test_sets(make, available)
        else:
            for_training = _joined(make, available, "train")
            for_validation = _joined(make, available, "eval")
            classes, test_classes = self._cut_off_test(
                sorted(set(for_training.labels)), self.test_size
            )
            test = {"test": ClassSubset(for_validation, test_classes)}
            to_evaluate = [("test", ["test"])]
        if self.shuffle:
            order = np.random.RandomState(self.random_seed).permutation(len(classes))
            classes = [classes[i] for i in order]
        if len(classes) < self.num_training_partitions:
            raise ValueError(
                f"{len(classes)} training classes cannot be cut into "
                f"{self.num_training_partitions} partitions"
            )
        partitions = np.array_split(classes, self.num_training_partitions)
        held_out = set(partitions[fold].tolist())
        kept = [c for c in classes if c not in held_out]
        return Splits(
            ClassSubset(for_training, kept, renumber=True),
            {"val": ClassSubset(for_validation, sorted(held_out)), **test},
            [("val", ["val"]), *to_evaluate],
            "val",
            to_evaluate[0][0],
        )

    def _cut_off_test(
        self, classes: list[int], size: float
    ) -> tuple[list[int], list[int]]:
        start = int(self.test_start_idx * len(classes))
        turned = classes[start:] + classes[:start]
        count = int(size * len(classes))
        return sorted(turned[count:]), sorted(turned[:count])


class _Joined(ConcatDataset):
    def __init__(self, datasets: list[Any]) -> None:
        super().__init__(datasets)
        self.labels = [label for dataset in datasets for label in dataset.labels]


def _joined(make: MakeDataset, available: Sequence[str], transform: str) -> _Joined:
    if "test" not in available:
        raise ValueError(
            "test_size needs a data set with splits train and test, this one has "
            f"{', '.join(available)}; leave test_size out to use its own"
        )
    return _Joined([make("train", transform), make("test", transform)])


def _own_test_sets(
    make: MakeDataset, available: Sequence[str]
) -> tuple[dict[str, Any], list[tuple[str, list[str]]]]:
    if "query" in available:
        test = {name: make(name, "eval") for name in ("query", "gallery")}
        return test, [("query", ["gallery"])]
    return {"test": make("test", "eval")}, [("test", ["test"])]
