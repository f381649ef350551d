"""The fit loop of the three trainings: classifier, affinity, segmenter.

In: a network, parameter groups, a loss function and a data set whose items are (epoch, position).
Out: the trained network and a history, one row per epoch. It knows no method: the loss function
maps (network, batch) to named scalars of which `total` is minimised. With several GPUs every rank
runs it on its share of each batch (`distributed`); rank 0 writes the checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from protoseg.training.checkpoint import load_checkpoint, save
from protoseg.training.distributed import (
    averaged_over_ranks,
    process_group,
    rank,
    seed_rank,
    world_size,
)
from protoseg.training.history import EpochClock, epoch_row, summary
from protoseg.training.order import EpochBatches
from protoseg.training.precision import place
from protoseg.training.schedule import poly_factor

LOG = logging.getLogger(__name__)
Batch = dict[str, Tensor]
LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class FitSettings:
    """What the loop needs to know.

    Attributes:
        batch_size: images per step over all ranks.
        max_steps: total steps, or None for ``epochs`` passes.
        clip_norm: global gradient norm limit, 0 for none. schedule_block: see `poly_factor`.
        seed: of data order and augmentation. workers: loader processes of all ranks together.
        fingerprint: of settings, code and data; a checkpoint of another one is refused.
        unused_parameters: whether a loss may leave out some of those that train.
        accumulate: parts of a batch whose gradients are added up.
    """

    batch_size: int
    epochs: int
    max_steps: int | None
    clip_norm: float
    schedule_block: int
    seed: int
    workers: int
    fingerprint: str
    unused_parameters: bool
    accumulate: int = 1


class BatchLosses(nn.Module):
    """A network and its loss function as one module: batch -> named losses.

    Gradients are averaged over the ranks of a module that is called as a whole, while loss
    functions call the parts of a network. ``total`` alone carries gradient.
    """

    def __init__(self, network: nn.Module, loss_function: LossFunction) -> None:
        super().__init__()
        self.network, self.loss_function = network, loss_function

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.loss_function(self.network, batch)
        return {name: v if name == "total" else v.detach() for name, v in losses.items()}


def fit(
    network: nn.Module,
    groups: list[dict[str, Any]],
    loss_function: LossFunction,
    dataset: Dataset[Batch],
    settings: FitSettings,
    device: torch.device,
    checkpoint: Path,
) -> pd.DataFrame:
    """Train ``network`` in place with SGD; resumes from ``checkpoint``.

    The checkpoint of the last epoch stays until its results are written (`save_history`).

    Args:
        groups: SGD parameter groups with `params`, `lr`, `weight_decay`, `momentum`.

    Returns:
        History, see `history`: one row per epoch.

    Raises:
        InputError: a loss that is not finite, with its name and step; too few images for a batch,
            or a batch that ranks cannot share; a checkpoint of other settings, code or data.
    """
    with process_group(device):
        return _train(network, groups, loss_function, dataset, settings, device, checkpoint)


def _train(
    network: nn.Module,
    groups: list[dict[str, Any]],
    loss_function: LossFunction,
    dataset: Dataset[Batch],
    settings: FitSettings,
    device: torch.device,
    checkpoint: Path,
) -> pd.DataFrame:
    place(network, device)
    length: int = len(dataset)  # type: ignore[arg-type]
    batches = EpochBatches(length, settings.batch_size, settings.seed, rank(), world_size())
    sizes = batches.part_sizes(settings.accumulate)
    max_steps = settings.max_steps or settings.epochs * len(batches)
    epochs = -(-max_steps // len(batches))
    optimizer = torch.optim.SGD(groups, lr=groups[0]["lr"])
    rates = [group["lr"] for group in optimizer.param_groups]
    history = _resume(checkpoint, settings, network, optimizer)
    loader = _loader(dataset, batches, settings.workers, device)
    network.train()
    module = BatchLosses(network, loss_function)
    compute_losses = averaged_over_ranks(module, groups, settings.unused_parameters)
    with logging_redirect_tqdm(), _bar(max_steps, len(history) * len(batches)) as bar:
        for epoch in range(len(history), epochs):
            batches.epoch = epoch
            seed_rank(settings.seed, epoch)
            clock, rows = EpochClock(), []
            for step, batch in enumerate(clock.timed(loader), epoch * len(batches)):
                if step >= max_steps:
                    break
                factor = poly_factor(step, max_steps, block=settings.schedule_block)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                parts = split(_to_device(batch, device), sizes)
                rows.append(step_on(parts, compute_losses, network, optimizer, settings.clip_norm))
                bar.update()
            history.append(epoch_row(rows, epoch, optimizer.param_groups[0]["lr"], clock))
            LOG.info("epoch %d/%d: %s", epoch + 1, epochs, summary(history[-1]))
            _save(checkpoint, settings, network, optimizer, history)
    return pd.DataFrame(history)


def _bar(steps: int, done: int) -> tqdm[NoReturn]:
    """Progress of rank 0, on a terminal."""
    return tqdm(total=steps, initial=done, disable=None if rank() == 0 else True)


def _loader(
    dataset: Dataset[Batch], batches: EpochBatches, workers: int, device: torch.device
) -> DataLoader[Batch]:
    workers = -(-workers // world_size())
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        # Starting workers draws a number; a resume, which starts them again, must not notice.
        generator=torch.Generator(),
    )


def split(batch: Batch, sizes: list[int]) -> list[Batch]:
    """Parts of a batch with so many images each."""
    columns = {name: value.split(sizes) for name, value in batch.items()}
    return [dict(zip(columns, part, strict=True)) for part in zip(*columns.values(), strict=True)]


def step_on(
    parts: Sequence[Batch],
    compute_losses: Callable[[Batch], dict[str, Tensor]],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip_norm: float,
) -> dict[str, Tensor]:
    """One step of the optimiser on the mean loss of ``parts``; returns the means of all losses."""
    optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for part in parts:
        losses = compute_losses(part)
        (losses["total"] / len(parts)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / len(parts)
    if clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()
    return means


def _resume(
    checkpoint: Path,
    settings: FitSettings,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> list[dict[str, float]]:
    """Load the checkpoint, where there is one; the history so far, one row per finished epoch."""
    saved = load_checkpoint(checkpoint, settings.fingerprint)
    if saved is None:
        torch.manual_seed(settings.seed)
        return []
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"])
    torch.cuda.set_rng_state_all(saved["rng_cuda"])
    return list(saved["history"])


def _save(
    checkpoint: Path,
    settings: FitSettings,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Everything that the remaining epochs depend on; rank 0 writes it."""
    if rank() > 0:
        return
    state = {
        "fingerprint": settings.fingerprint,
        "epoch": len(history),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all()[:1],  # its own: a resume may see fewer GPUs
        "history": history,
    }
    save(checkpoint, state)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    def moved(value: Tensor) -> Tensor:
        memory = torch.channels_last if value.ndim == 4 else torch.preserve_format
        return value.to(device, non_blocking=True, memory_format=memory)

    return {name: moved(value) for name, value in batch.items()}
