"""MemVir in a Lightning module, whose checkpoints keep MemVir's memory.

    python examples/lightning_module.py

Stop it at any time and run it again: it goes on from the last epoch that is whole.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from glyphs import (
    BATCH_SIZE,
    EMBEDDING_SIZE,
    accuracies,
    load,
    make_network,
    parse,
)
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, DistributedSampler

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax


class MetricLearner(lightning.LightningModule):
    """A network and its loss.

    As the loss is a submodule, `configure_optimizers` finds its class weights, and
    Lightning saves and loads its memory with the rest.
    """

    def __init__(self, num_classes: int, step_gap: int, warmup_steps: int) -> None:
        super().__init__()
        self.network = make_network()
        # With `accumulate_grad_batches=k` of the Trainer, add accumulation_steps=k
        # here; `on_train_epoch_end` ends a step of fewer batches.
        # With several devices, add gather=True: Lightning saves the memory of rank 0
        # only, and a gathered one is that of all ranks.
        self.loss_func = MemVir(
            NormSoftmax(num_classes, EMBEDDING_SIZE),
            num_steps=2,
            step_gap=step_gap,
            warmup_steps=warmup_steps,
        )
        self.tested: list[tuple[torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = self.loss_func(self.network(images), labels)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.loss_func.end_step()  # Lightning's optimizer steps with what is left
        self.print(
            f"epoch {self.current_epoch + 1}: "
            f"mean loss {self.trainer.callback_metrics['loss']:.4f}, "
            f"{self.loss_func.num_virtual_classes} virtual classes"
        )

    # Classes of the test are not those of the loss: what is tested is retrieval.
    def test_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.tested.append((self.network(images), labels))

    def on_test_epoch_end(self) -> None:
        embeddings, labels = (torch.cat(parts) for parts in zip(*self.tested))
        self.tested.clear()
        self.log_dict(accuracies(embeddings, labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            [
                {"params": self.network.parameters(), "lr": 0.002},
                {"params": self.loss_func.parameters(), "lr": 0.01},
            ]
        )


def main() -> None:
    folder = Path("output/examples/lightning_module")
    options = parse(__doc__, epochs=4, step_gap=100, folder=folder)
    # What Lightning says of devices, workers and folders is left out here.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    lightning.seed_everything(0, verbose=False)
    data = load(options)
    # Lightning saves no random states. A sampler that goes by seed and epoch needs
    # none; Lightning tells it the epoch. (With several devices it makes one itself.)
    sampler = DistributedSampler(data.train, num_replicas=1, rank=0, seed=0)
    loader = DataLoader(data.train, BATCH_SIZE, sampler=sampler, drop_last=True)
    module = MetricLearner(data.num_classes, options.step_gap, len(loader))
    checkpoints = ModelCheckpoint(  # one, at the end of each epoch
        options.folder, filename="latest", enable_version_counter=False
    )
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        devices=1,
        callbacks=[checkpoints],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    latest = options.folder / "latest.ckpt"
    print("resume" if latest.exists() else "begin")
    trainer.fit(
        module,
        loader,
        ckpt_path=latest if latest.exists() else None,
        weights_only=True,  # all of it is tensors and plain containers
    )
    trainer.test(module, DataLoader(data.test, 256), verbose=False)


if __name__ == "__main__":
    main()
