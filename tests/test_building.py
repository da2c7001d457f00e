"""What is named in a config is built, or refused."""

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from pytorch_metric_learning import losses as pml_losses  # noqa: E402
from pytorch_metric_learning import reducers, regularizers  # noqa: E402

from benchmarks.config import ConfigError, registry  # noqa: E402
from benchmarks.config.arguments import unknown_arguments  # noqa: E402
from benchmarks.config.building import build  # noqa: E402
from pml_memvir import MemVir  # noqa: E402
from pml_memvir import losses as own_losses  # noqa: E402

FILL = {"num_classes": 7, "embedding_size": 4, "steps_per_epoch": 63}


def loss(spec):
    return build("loss", spec, "loss_funcs.metric_loss", fill=FILL)


MEMVIR = {"loss": {"NormSoftmax": {}}, "num_steps": 1, "step_gap": 0}


def test_nested_losses_get_classes_and_sizes():
    built = loss(
        {
            "MemVir": {
                "loss": {"CosFaceLoss": {"margin": 0.2, "reducer": "MeanReducer"}},
                "num_steps": 45,
                "step_gap": 10,
                "warmup_epochs": 40,
                "memory_dtype": "bfloat16",
            }
        }
    )
    assert isinstance(built, MemVir) and isinstance(built.loss, pml_losses.CosFaceLoss)
    assert built.loss.W.shape == (4, 7) and built.loss.margin == 0.2
    assert isinstance(built.loss.reducer, reducers.MeanReducer)
    assert (built.num_steps, built.step_gap, built.warmup_steps) == (45, 10, 40 * 63)

    several = loss(
        {
            "MultipleLosses": {
                "losses": {
                    "a": {"NormSoftmax": {"scale": 3.0}},
                    "b": {"ContrastiveLoss": {"distance": {"LpDistance": {"p": 1}}}},
                },
                "weights": {"a": 1.0, "b": 0.5},
            }
        }
    )
    assert isinstance(several.losses["a"], own_losses.NormSoftmax)
    assert several.losses["b"].distance.p == 1
    listed = loss(
        {
            "MultipleLosses": {
                "losses": [{"ContrastiveLoss": None}, {"NormSoftmax": {}}],
                "miners": [{"MultiSimilarityMiner": {}}, None],
                "weights": [0.5, 1],
            }
        }
    )
    assert list(listed.losses) == ["loss_0", "loss_1"] == list(listed.weights)
    weighted = {"ClassWeightedReducer": {"weights": [1.0] * 7}}
    reducer = loss({"NormSoftmax": {"reducer": weighted}}).reducer
    assert reducer.weights.tolist() == [1.0] * 7
    memory = loss(
        {"CrossBatchMemory": {"loss": {"ContrastiveLoss": None}, "memory_size": 20}}
    )
    assert memory.embedding_memory.shape == (20, 4)
    regularised = loss(
        {"ProxyNCA": {"weight_regularizer": "RegularFaceRegularizer", "scale": 9.0}}
    )
    assert isinstance(
        regularised.weight_regularizer, regularizers.RegularFaceRegularizer
    )


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"NormSoftmx": {}}, r"unknown loss 'NormSoftmx'\. Did you mean 'NormSoftmax'"),
        ({"normsoftmax": {}}, "Did you mean 'NormSoftmax'"),
        (
            {"CosFaceLoss": {"margn": 1}},
            "unknown argument 'margn'. Did you mean 'margin'",
        ),
        ({"CosFaceLoss": {}, "ArcFaceLoss": {}}, "expected one class, got 2.*OVERRIDE"),
        ({"CosFaceLoss": 3}, "expected arguments, got 3"),
        (["CosFaceLoss"], "expected {ClassName: arguments}"),
        ({"NormSoftmax": {"scale": -1}}, "NormSoftmax: scale must be > 0"),
        ({"CosFaceLoss": {"margin": "abc"}}, "margin must be a number, got 'abc'"),
        ({"NormSoftmax": {"num_classes": 9}}, "num_classes is 9, but there are 7"),
        ({"MemVir": {"loss": {"NormSoftmax": {}}, "num_steps": 2}}, "needs step_gap"),
        (
            {
                "MemVir": {
                    "loss": {"ContrastiveLoss": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                }
            },
            "ContrastiveLoss",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                    "warmup_steps": 5,
                    "warmup_epochs": 1,
                }
            },
            "not both",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {}},
                    "num_steps": 2,
                    "step_gap": 1,
                    "memory_dtype": "float",
                    "memory_device": "disk",
                }
            },
            "memory_device",
        ),
        (
            {
                "MemVir": {
                    "loss": {"NormSoftmax": {"sale": 1}},
                    "num_steps": 2,
                    "step_gap": 1,
                }
            },
            r"MemVir\.loss\.NormSoftmax: unknown argument 'sale'. Did you mean 'scale'",
        ),
        ({"MemVir": {**MEMVIR, "gather": True}}, "gather and accum.* of no use here"),
        (
            {"MemVir": {**MEMVIR, "accumulation_steps": 2}},
            "gather and accum.* of no use",
        ),
        (
            {"MemVir": {**MEMVIR, "warmup_epochs": 0.5}},
            "warmup_epochs must be an integer",
        ),
    ],
)
def test_losses_that_cannot_be_meant(spec, message):
    with pytest.raises(ConfigError, match=message):
        loss(spec)


def test_arguments_that_the_suite_passes_are_refused():
    with pytest.raises(ConfigError, match=r"params is filled in"):
        build("optimizer", {"SGD": {"params": [], "lr": 1}}, "o", given={"params": []})


def test_names_of_ones_own():
    class Other(own_losses.NormSoftmax):
        pass

    registry.register("loss", Other)
    assert isinstance(loss("Other"), Other)
    assert "Other" in registry.names("loss") and "MemVir" in registry.names("loss")
    assert "partial" not in registry.names("loss")
    assert "DatasetError" not in registry.names("dataset")
    assert not [n for n in registry.names("loss") if n.startswith("Base")]


def test_unknown_arguments_of_losses_within_losses():
    of = {"a": {"NormSoftmax": {"sale": 1}}, "b": {"ContrastiveLoss": None}}
    losses = {"MultipleLosses": {"losses": of, "weights": {"a": 0.5, "b": 1}}}
    (found,) = unknown_arguments({"loss_funcs": {"metric_loss": losses}})
    assert found[0] == "loss_funcs.metric_loss.MultipleLosses.losses.a.NormSoftmax.sale"
