"""The demo from its command line, cut short."""

import csv
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from benchmarks import demo
from benchmarks.__main__ import main
from benchmarks.report.runs import read

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "study"

SHORT = demo.Settings(
    num_epochs=2, steps_per_epoch=8, num_steps=2, step_gap=3, warmup_epochs=1
)


@pytest.fixture(scope="module")
def result(glyphs_root, tmp_path_factory):
    """The arms, what was printed and where the files are."""
    output = tmp_path_factory.mktemp("demo")
    console = Console(record=True, width=80)
    arms = demo.run(glyphs_root, output, SHORT, console)
    return arms, console.export_text(), output


def test_both_arms_start_alike_and_then_differ(result):
    """Warm-up is one epoch: same seed, same batches, same network."""
    plain, with_memvir = (arm.history for arm in result[0])
    for name in demo.METRICS:
        assert plain[name][0] == with_memvir[name][0]
        assert plain[name][1] != with_memvir[name][1]


def test_the_table_prints_what_was_measured(result):
    arms, text, output = result
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == ["loss", "Recall@1", "R-Precision", "MAP@R", "ms a step"]
    for arm, row in zip(arms, cells[2:], strict=True):
        values = [f"{100 * arm.history[name][-1]:.2f}" for name in demo.METRICS]
        assert row == [arm.name, *values, f"{arm.milliseconds_a_step:.1f}"]
        assert arm.milliseconds_a_step > 0
    assert max(map(len, text.splitlines())) <= 80


def test_the_metrics_are_those_on_record(result):
    arms, _, output = result
    for arm, folder in zip(arms, ("plain", "memvir")):
        (path,) = (output / folder / "records").glob("accuracies_*.csv")
        with path.open() as file:
            rows = list(csv.DictReader(file))
        for name, metric in demo.METRICS.items():
            recorded = [float(row[f"{metric}_level0"]) for row in rows]
            assert recorded == pytest.approx(arm.history[name])


def test_iterations_are_on_record(result):
    path = result[2] / "memvir" / "records" / "metric_loss_MemVir.csv"
    assert "num_virtual_classes" in path.read_text()


def test_evaluation_is_on_unseen_classes(glyphs_root, tmp_path, monkeypatch):
    evaluated = []

    def spy(self, dataset_dict, *_):
        evaluated.append(dataset_dict)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.GlobalEmbeddingSpaceTester, "test", spy)
    with pytest.raises(KeyboardInterrupt):
        demo.run(glyphs_root, tmp_path, SHORT, Console())
    ((split, dataset),) = evaluated[0].items()
    assert split == "test" and min(dataset.labels) >= dataset.num_train_classes


def test_options_reach_the_demo(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(demo, "run", lambda *arguments: calls.append(arguments))
    options = ["--seed", "7", "--epochs", "5", "--data", "d", "--output"]
    CliRunner().invoke(main, ["demo", *options, str(tmp_path)], catch_exceptions=False)
    data, output, settings, _ = calls[0]
    assert (str(data), output) == ("d", tmp_path)
    assert (settings.seed, settings.num_epochs) == (7, 5)


@pytest.mark.parametrize("name", ["curves.png", "tsne.png"])
def test_figures(result, name):
    with Image.open(result[2] / name) as image:
        assert image.format == "PNG" and min(image.size) > 400
        assert len(np.unique(image.convert("L"))) > 20  # something is drawn


def test_an_output_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine").write_text("precious")
    outcome = CliRunner().invoke(main, ["demo", "--output", str(tmp_path)])
    assert outcome.exit_code == 2 and "is not empty" in outcome.output
    assert (tmp_path / "mine").read_text() == "precious"


def test_the_studys_number_is_the_studys():
    """Of the runs on record, as of 2,000 steps, at the settings of the demo."""
    values = read([RESULTS / "follow_up.csv.gz"]).values
    chosen = (values.epoch == 2) & (values.split == "test")
    chosen &= values.metric == "mean_average_precision_at_r"
    plain, memvir = (
        values[chosen & (values.experiment == f"glyphs/{arm}+100_classes")]
        .set_index("seed")
        .value
        for arm in ("norm_softmax", "norm_softmax_memvir")
    )
    differences = 100 * (memvir - plain)
    assert len(differences) == 5
    mean = differences.mean()
    interval = scipy.stats.t.interval(0.95, 4, mean, differences.std() / 5**0.5)
    low, high = (f"{bound:+.2f}" for bound in interval)
    assert demo.STUDY.startswith(f"{mean:+.2f} [{low}, {high}] in MAP@R")
