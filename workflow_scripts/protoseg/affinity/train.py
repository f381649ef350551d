"""Training of the affinity network: images + IR labels -> weights (stage `train_affinity`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from protoseg.affinity.losses import affinity_losses, pair_sums
from protoseg.affinity.model import AffinityModel, new_model
from protoseg.data.labelled import LabelledDataset
from protoseg.settings.schema import AffinitySettings
from protoseg.training.distributed import rank, sum_over_ranks, world_size
from protoseg.training.fit import Batch, FitSettings, fit
from protoseg.training.precision import autocast, default_device


def parameter_groups(model: AffinityModel, settings: AffinitySettings) -> list[dict[str, Any]]:
    """SGD groups: edge branch and displacement branch, each at its learning rate."""
    common = {"weight_decay": settings.weight_decay, "momentum": settings.momentum}
    branches = model.branches
    groups = [{"params": list(branches.edge.parameters()), "lr": settings.learning_rate, **common}]
    if branches.displacement is not None:
        parameters = list(branches.displacement.parameters())
        rate = settings.learning_rate_displacement
        groups.append({"params": parameters, "lr": rate, **common})
    return groups


def batch_losses(network: nn.Module, batch: Batch, settings: AffinitySettings) -> dict[str, Tensor]:
    """Named losses of a batch of images and label maps, this rank's share of them."""
    with autocast(batch["image"].device, settings.precision):
        fields = network(batch["image"])
    sums = pair_sums(fields.edge_logits, batch["label"], settings.radius, fields.displacement)
    return affinity_losses(sums._replace(costs=sums.costs * world_size()), sum_over_ranks)


def train_affinity(
    dataset: LabelledDataset,
    settings: AffinitySettings,
    seed: int,
    *,
    classifier: Path | None,
    workers: int,
    fingerprint: str,
    checkpoint: Path,
) -> tuple[AffinityModel, pd.DataFrame]:
    """Train the branches; returns the model and its history, complete on rank 0."""
    torch.manual_seed(seed)  # initial weights of the branches
    device = default_device()
    model = new_model(settings, classifier)
    if settings.compile:
        model.compile()
    fit_settings = FitSettings(
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_steps=None,
        clip_norm=settings.clip_norm,
        schedule_block=1,
        seed=seed,
        workers=workers,
        fingerprint=fingerprint,
        unused_parameters=False,
    )
    groups = parameter_groups(model, settings)
    loss_function = partial(batch_losses, settings=settings)
    history = fit(model, groups, loss_function, dataset, fit_settings, device, checkpoint)
    if settings.displacement and rank() == 0:
        fill_displacement_mean(model, dataset, settings, device, workers)
    return model, history


@torch.no_grad()
def fill_displacement_mean(
    model: AffinityModel,
    dataset: LabelledDataset,
    settings: AffinitySettings,
    device: torch.device,
    workers: int,
) -> None:
    """Mean displacement over the training set (augmented once more), subtracted in evaluation."""
    model.eval()
    model.branches.displacement_mean.zero_()
    keys = [(settings.epochs, position) for position in range(len(dataset))]
    pinned = device.type == "cuda"
    loader = DataLoader(dataset, None, sampler=keys, num_workers=workers, pin_memory=pinned)
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for item in loader:
        image = item["image"].to(device, non_blocking=True)
        with autocast(device, settings.precision):
            field = model(image[None]).displacement
        total += field.double().mean(dim=(0, 2, 3))
    model.branches.displacement_mean.copy_((total / len(keys)).float())
