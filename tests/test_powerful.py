"""powerful-benchmarker's configs and habits."""

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.config import ConfigError, load  # noqa: E402
from benchmarks.config.powerful import translated  # noqa: E402

# Folders and words as there, values of a small set.
FILES = {
    "config_dataset/default": """
dataset:
  CUB200:
splits_to_eval: [val]
split_manager:
  ClassDisjointSplitManager: {hierarchy_level: 0, num_training_sets: 4}
""",
    "config_eval/default": """
tester:
  GlobalEmbeddingSpaceTester:
    reference_set: compared_to_self
    accuracy_calculator:
      AccuracyCalculator:
    visualizer: {}
aggregator:
  MeanAggregator: {split_to_aggregate: val}
ensemble:
  ConcatenateEmbeddings: {normalize_embeddings: True}
hook_container:
  HookContainer: {primary_metric: mean_average_precision_at_r, save_models: True}
""",
    "config_factories/default": "factories: {model: {ModelFactory: {}}}\n",
    "config_general/default": """
api_parser: null
trainer:
  MetricLossOnly: {iterations_per_epoch: 100, batch_size: 32, loss_weights: null}
num_epochs_train: 10
skip_eval_if_already_done: True
save_lists_in_db: False
""",
    "config_general/with_classifier": "trainer~SWAP~1: {TrainWithClassifier: }\n",
    "config_loss_and_miners/default": """
loss_funcs:
  metric_loss:
    ContrastiveLoss:
sampler:
  MPerClassSampler: {m: 4, length_before_new_iter: dataset_length}
mining_funcs:
""",
    "config_models/default": """
models:
  trunk: {bninception: {pretrained: imagenet}}
  embedder: {MLP: {layer_sizes: [128]}}
""",
    "config_optimizers/default": """
optimizers:
  trunk_optimizer:
    RMSprop: {lr: 0.000001}
    scheduler_by_epoch: {StepLR: {step_size: 2}}
    clip_grad_norm: 1
  embedder_optimizer:
    RMSprop:
""",
    "config_transforms/default": """
transforms:
  train: {RandomResizedCrop: {scale: 0.16 1, size: 227}}
  eval: {CenterCrop: {size: 227}}
""",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "configs"


def test_its_default_set_is_read_as_it_is(folder):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    notes = []
    config = load(str(folder), ["with_classifier"], [], notes.append)
    (note,) = notes
    for word in ("aggregator", "factories", "hierarchy_level", "reference_set"):
        assert word in note
    assert list(config.trainer) == ["TrainWithClassifier"]
    assert (
        config.sampler == {"MPerClassSampler": {"m": 4}} and config.mining_funcs == {}
    )
    assert "bn_inception" in config.models["trunk"]["bninception"]["checkpoint"]
    optimizer = config.optimizers["trunk_optimizer"]["RMSprop"]
    assert optimizer["clip_grad_norm"] == 1 and optimizer["scheduler_by_epoch"]
    assert "visualizer" not in config.tester["GlobalEmbeddingSpaceTester"]


def test_files_of_one_name_are_named_by_their_folder(folder):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    for place, text in (("general", "patience: 3"), ("dataset", "save_interval: 1")):
        (folder / f"config_{place}/twice.yaml").write_text(text)
    each = "config_dataset/twice and config_general/twice"
    with pytest.raises(ConfigError, match=f"'twice' is {each}: name one, or both"):
        load(str(folder), ["twice"])
    config = load(str(folder), each.split(" and "))
    assert (config.patience, config.save_interval) == (3, 1)


def test_all_that_is_unknown_is_told_at_once_with_file_and_line(folder):
    pytest.importorskip("torchvision", reason="transforms are torchvision's")
    (folder / "config_general/mine.yaml").write_text(
        "patince: 3\n\nskip_eval_if_already_done: False\n"
        "trainer~APPLY~2: {batch_sz: 4}\n"
        "layers_to_extract: [fc]\ntester~APPLY~2:\n  reference_set: compared_to_all\n"
    )
    (folder / "config_models/mine2.yaml").write_text(
        "models:\n  embedder:\n    MLP:\n      layer_size: [3]\n"
    )
    with pytest.raises(ConfigError) as error:
        load(str(folder), ["mine", "mine2"])
    said = str(error.value).splitlines()
    assert len(said) == 6
    for line in (
        "mine.yaml:1: unknown key 'patince'. Did you mean 'patience'?",
        "mine.yaml:3: skip_eval_if_already_done is not needed here",
        "mine.yaml:5: layers_to_extract",
        "mine2.yaml:4: models.embedder.MLP: unknown argument 'layer_size'. Did you",
        "unknown argument 'batch_sz'. Did you mean 'batch_size'",
        "reference_set is not needed here: each split is searched in itself",
    ):
        assert any(line in one for one in said), line


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"sampler": {}}, {"sampler": None}),
        ({"transforms": None}, {"transforms": {}}),
        (
            {"models": {"trunk": {"resnet50": {"pretrained": True}}}},
            {"models": {"trunk": {"resnet50": {"weights": "IMAGENET1K_V1"}}}},
        ),
        (
            {"models": {"trunk": {"resnet50": {"pretrained": None}}}},
            {"models": {"trunk": {"resnet50": {}}}},
        ),
        (
            {"dataset": {"CUB200": {"root": "x", "download": True}}},
            {"dataset": {"CUB200": {"root": "x"}}},
        ),
        (
            {"optimizers": {"a": {"Adam": None, "scheduler": {"StepLR": {}}}}},
            {"optimizers": {"a": {"Adam": {"scheduler": {"StepLR": {}}}}}},
        ),
    ],
)
def test_words(values, expected):
    found, _, problems = translated(values)
    assert found == expected and not problems


@pytest.mark.parametrize(
    "words, answer",
    [
        (
            ["--trainer~APPLY~2", "{batch_size: 64}"],
            "'trainer~APPLY~2={batch_size: 64}'",
        ),
        (["--num_epochs_train=3"], "as num_epochs_train=3"),
        (
            ["--config_general", "default", "with_cars196", "--x", "1"],
            "laid over by --with config_general/with_cars196",
        ),
        (["--root_experiment_folder", "runs"], "--output runs"),
    ],
)
def test_its_command_line_is_answered_by_the_right_spelling(words, answer):
    result = CliRunner().invoke(main, ["run", "glyphs/softmax", *words])
    assert result.exit_code == 2 and answer in result.output
