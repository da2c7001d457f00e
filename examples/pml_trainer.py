"""MemVir in a trainer of pytorch-metric-learning, with hooks, tester and records.

    python examples/pml_trainer.py

Stop it at any time and run it again: it goes on from the last epoch that is whole.
Accuracies of each epoch, the loss and what MemVir says of itself are in the records, as
CSV files and in sqlite; `tensorboard --logdir output/examples` draws them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, METRICS, load, make_network, parse
from pytorch_metric_learning.testers import GlobalEmbeddingSpaceTester
from pytorch_metric_learning.trainers import MetricLossOnly
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from pml_memvir import MemVir, epochs_to_steps
from pml_memvir.hook_container import SafeHookContainer
from pml_memvir.losses import NormSoftmax

# PML's progress bar formats the loss, of which PyTorch warns.
warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")


def main() -> None:
    folder = Path("output/examples/pml_trainer")
    options = parse(__doc__, epochs=4, step_gap=100, folder=folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    data = load(options)

    trunk, embedder = make_network().to(device)
    loss_func = MemVir(
        NormSoftmax(data.num_classes, EMBEDDING_SIZE),
        num_steps=2,
        step_gap=options.step_gap,
    ).to(device)

    record_keeper, _, _ = logging_presets.get_record_keeper(
        str(options.folder / "records"), str(options.folder / "tensorboard")
    )
    # PML's HookContainer keeps MemVir's memory as well. This one keeps the states of
    # the random generators, too, and no kill can leave it half a checkpoint.
    hooks = SafeHookContainer(record_keeper, validation_split_name="test")
    tester = GlobalEmbeddingSpaceTester(
        end_of_testing_hook=hooks.end_of_testing_hook,
        batch_size=256,
        dataloader_num_workers=0,
        accuracy_calculator=AccuracyCalculator(
            include=tuple(METRICS.values()), k="max_bin_count"
        ),
    )
    models = str(options.folder / "models")
    trainer = MetricLossOnly(
        models={"trunk": trunk, "embedder": embedder},
        optimizers={
            "trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=0.002),
            "embedder_optimizer": torch.optim.Adam(embedder.parameters(), lr=0.002),
            "metric_loss_optimizer": torch.optim.Adam(loss_func.parameters(), lr=0.01),
        },
        batch_size=BATCH_SIZE,
        loss_funcs={"metric_loss": loss_func},
        dataset=data.train,
        dataloader_num_workers=0,
        end_of_iteration_hook=hooks.end_of_iteration_hook,
        end_of_epoch_hook=hooks.end_of_epoch_hook(tester, {"test": data.test}, models),
    )
    loss_func.warmup_steps = epochs_to_steps(1, trainer)  # only the trainer knows

    first_epoch = hooks.load_latest_saved_models(trainer, models)
    print(f"begin with epoch {first_epoch}, step {loss_func.step}")
    trainer.train(first_epoch, options.epochs)

    levels = {name: f"{metric}_level0" for name, metric in METRICS.items()}
    history = hooks.get_accuracy_history(tester, "test", metrics=[*METRICS.values()])
    for row, epoch in enumerate(history["epoch"]):
        values = (f"{n} {100 * history[key][row]:.2f}" for n, key in levels.items())
        print(f"epoch {epoch}: test:", ", ".join(values))
    print(
        f"{loss_func.num_virtual_classes} virtual classes after {loss_func.step} steps"
    )


if __name__ == "__main__":
    main()
