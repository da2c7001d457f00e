"""MemVir in a loop of Hugging Face Accelerate, with save_state and load_state.

    python examples/accelerate_loop.py
    torchrun --nproc_per_node=2 examples/accelerate_loop.py

Stop it at any time and run it again: it goes on from the last epoch that is whole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from glyphs import BATCH_SIZE, EMBEDDING_SIZE, evaluate, load, make_network, parse
from torch.utils.data import DataLoader

from pml_memvir import MemVir
from pml_memvir.losses import NormSoftmax


def save(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """A checkpoint that is there as a whole or not at all."""
    temporary = folder / "unfinished"
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(temporary, folder / f"epoch_{epoch}")
        shutil.rmtree(folder / f"epoch_{epoch - 1}", ignore_errors=True)


def load_latest(accelerator: Accelerator, folder: Path) -> int:
    """The epoch of the latest checkpoint, which is loaded; 0 if there is none."""
    epochs = [int(path.name[len("epoch_") :]) for path in folder.glob("epoch_*")]
    if not epochs:
        return 0
    # Accelerate loads models with torch.load(weights_only=True). What is given to
    # `register_for_checkpointing` it does not: so prepare MemVir as a model.
    accelerator.load_state(str(folder / f"epoch_{max(epochs)}"))
    return max(epochs)


def main() -> None:
    folder = Path("output/examples/accelerate_loop")
    options = parse(__doc__, epochs=4, step_gap=100, folder=folder)
    # Images come in an order that goes by seed and epoch: with several processes,
    # Accelerate shuffles by a generator that it does not save.
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # or processes would not find each other
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=0
        ),
    )
    set_seed(0)
    with accelerator.main_process_first():  # which draws the letters
        data = load(options, verbose=accelerator.is_main_process)
    loader = DataLoader(data.train, BATCH_SIZE, shuffle=True, drop_last=True)

    network = make_network()
    loss_func = MemVir(
        NormSoftmax(data.num_classes, EMBEDDING_SIZE),
        num_steps=2,
        step_gap=options.step_gap,
        warmup_steps=len(loader) // accelerator.num_processes,
        # With gradient_accumulation_steps=k, add accumulation_steps=k.
        # Accelerate saves the models of the main process. A gathered memory is the same
        # in all processes; without it, each has one of its own batches.
        gather=accelerator.num_processes > 1,
    )
    optimizer = torch.optim.Adam(
        [
            {"params": network.parameters(), "lr": 0.002},
            {"params": loss_func.parameters(), "lr": 0.01},
        ]
    )
    # MemVir is prepared as a model is: it has parameters, and a state to be saved.
    network, loss_func, optimizer, loader = accelerator.prepare(
        network, loss_func, optimizer, loader
    )
    memvir = accelerator.unwrap_model(loss_func)

    done = load_latest(accelerator, options.folder)
    accelerator.print(f"begin with epoch {done + 1}, step {memvir.step}")
    for epoch in range(done + 1, options.epochs + 1):
        loader.set_epoch(epoch)
        losses = []
        for images, labels in loader:
            loss = loss_func(network(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            if accelerator.sync_gradients:  # the optimizer did step, if with fewer
                memvir.end_step()
            losses.append(loss.detach())
        accelerator.print(
            f"epoch {epoch}: mean loss {torch.stack(losses).mean():.4f}, "
            f"{memvir.num_virtual_classes} virtual classes"
        )
        save(accelerator, options.folder, epoch)
    if accelerator.is_main_process:
        evaluate(accelerator.unwrap_model(network), data.test)
    accelerator.end_training()


if __name__ == "__main__":
    main()
