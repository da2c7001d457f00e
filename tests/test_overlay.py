"""Overlays of configs, as powerful-benchmarker writes them."""

import json

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from benchmarks.config import ConfigError  # noqa: E402
from benchmarks.config.overlay import overlay  # noqa: E402

OPTIMIZERS = {
    "optimizers": {
        "trunk_optimizer": {"RMSprop": {"lr": 1e-6}},
        "embedder_optimizer": {"Adam": {"lr": 0.01}},
    }
}
TRAINER = {"trainer": {"MetricLossOnly": {"workers": 2, "batch_size": 32}}}
TRANSFORMS = {
    "transforms": {
        "train": {"Resize": {"size": 256}, "RandomHorizontalFlip": {"p": 0.5}},
        "eval": {"Resize": {"size": 256}},
    }
}


@pytest.mark.parametrize(
    "base, top, expected",
    [
        (  # mappings are merged
            OPTIMIZERS,
            {"optimizers": {"trunk_optimizer": {"RMSprop": {"lr": 0.1, "alpha": 0.9}}}},
            {
                "optimizers": {
                    "trunk_optimizer": {"RMSprop": {"lr": 0.1, "alpha": 0.9}},
                    "embedder_optimizer": {"Adam": {"lr": 0.01}},
                }
            },
        ),
        (
            OPTIMIZERS,
            {"optimizers~OVERRIDE~": {"trunk_optimizer": {"Adam": {"lr": 0.1}}}},
            {"optimizers": {"trunk_optimizer": {"Adam": {"lr": 0.1}}}},
        ),
        (  # at any level
            OPTIMIZERS,
            {"optimizers": {"trunk_optimizer~OVERRIDE~": {"Adam": {"lr": 0.1}}}},
            {
                "optimizers": {
                    "trunk_optimizer": {"Adam": {"lr": 0.1}},
                    "embedder_optimizer": {"Adam": {"lr": 0.01}},
                }
            },
        ),
        (
            OPTIMIZERS,
            {"optimizers": {"embedder_optimizer~DELETE~": {}}},
            {"optimizers": {"trunk_optimizer": {"RMSprop": {"lr": 1e-6}}}},
        ),
        (
            TRAINER,
            {"trainer~APPLY~2": {"batch_size": 256}},
            {"trainer": {"MetricLossOnly": {"workers": 2, "batch_size": 256}}},
        ),
        (
            OPTIMIZERS,
            {"optimizers~APPLY~3": {"lr": 0.005}},
            {
                "optimizers": {
                    "trunk_optimizer": {"RMSprop": {"lr": 0.005}},
                    "embedder_optimizer": {"Adam": {"lr": 0.005}},
                }
            },
        ),
        (
            TRAINER,
            {"trainer~SWAP~1": {"Custom": {}}},
            {"trainer": {"Custom": {"workers": 2, "batch_size": 32}}},
        ),
        (
            TRANSFORMS,
            {"transforms~SWAP~2": {"RandomHorizontalFlip": "RandomVerticalFlip"}},
            {
                "transforms": {
                    "train": {
                        "Resize": {"size": 256},
                        "RandomVerticalFlip": {"p": 0.5},
                    },
                    "eval": {"Resize": {"size": 256}},
                }
            },
        ),
        (
            TRANSFORMS,
            {"transforms~SWAP~2": {"Resize": "Pad"}},
            {
                "transforms": {
                    "train": {"Pad": {"size": 256}, "RandomHorizontalFlip": {"p": 0.5}},
                    "eval": {"Pad": {"size": 256}},
                }
            },
        ),
        (  # one after the other, as in a file that swaps and then applies
            TRAINER,
            {"trainer~SWAP~1": {"C": None}, "trainer~APPLY~2": {"g": 1}},
            {"trainer": {"C": {"workers": 2, "batch_size": 32, "g": 1}}},
        ),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        (
            {"a": {"lr": 1}},
            {"a": {"lr~LOG_BAYESIAN~": [1, 2]}},
            {"a": {"lr~LOG_BAYESIAN~": [1, 2]}},
        ),
        ({"a": {"lr~BAYESIAN~": [1, 2]}}, {"a": {"lr": 3}}, {"a": {"lr": 3}}),
    ],
)
def test_overlay(base, top, expected):
    before = repr(base)
    result = overlay(base, top)
    assert json.dumps(result) == json.dumps(expected)  # order counts, in transforms
    assert repr(base) == before


@pytest.mark.parametrize(
    "top, message",
    [
        ({"trainr~APPLY~2": {"a": 1}}, "Did you mean 'trainer'"),
        ({"trainer~DELETE": {}}, "suffix"),
        ({"trainer~REMOVE~": {}}, "suffix"),
        ({"trainer~APPLY~": {"a": 1}}, "depth of 1 or more"),
        ({"trainer~OVERRIDE~2": {"a": 1}}, "depth of 1 or more"),
        ({"trainer~APPLY~5": {"a": 1}}, "no mapping 5 levels down"),
        ({"trainer~SWAP~2": {"New": {}}}, "there are 2 keys"),
        ({"trainer~SWAP~1": {"Absent": "New"}}, "none of Absent"),
        ({"trainer~APPLY~2": 3}, "expected a mapping"),
        ({"new": {"a~DELETE~": {}}}, "no 'a' to delete"),
        ({"trainer~SWAP~2": {"workers": "batch_size"}}, "a 'batch_size' already"),
        ({"trainer~SWAP~2": {"workers": "w", "batch_size": None}}, "expected {old"),
        ({"milestones": {"0": 1}}, r"milestones: expected a list, as \[3, 5\]"),
    ],
)
def test_overlay_refuses(top, message):
    with pytest.raises(ConfigError, match=message):
        overlay({**TRAINER, "milestones": [3, 5]}, top)
