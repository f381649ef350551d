"""Training of the classifier: index -> weights and history (stage `train_classifier`)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from protoseg.backbones import build_backbone
from protoseg.data.classification import ImageLabelDataset
from protoseg.data.index import DatasetIndex
from protoseg.localization.method import training_losses
from protoseg.localization.network import LocalizationNetwork
from protoseg.settings.fields import from_mapping
from protoseg.settings.schema import ClassifierSettings
from protoseg.training.checkpoint import load_weights
from protoseg.training.fit import Batch, FitSettings, fit
from protoseg.training.precision import autocast, default_device, place


def build_network(
    settings: ClassifierSettings, num_classes: int, weights: str
) -> LocalizationNetwork:
    """Network of ``settings`` with initial ``weights`` for its backbone."""
    backbone = build_backbone(
        settings.backbone,
        weights,
        frozen_stages=settings.frozen_stages,
        batch_norm=settings.batch_norm,  # type: ignore[arg-type]
    )
    sides = () if settings.method == "cam" else settings.side_widths
    return LocalizationNetwork(backbone, num_classes, sides)


def load_network(
    path: Path, device: torch.device
) -> tuple[LocalizationNetwork, ClassifierSettings]:
    """Trained network in evaluation mode, and the settings it was trained with."""
    state, about = load_weights(path)
    settings = from_mapping(ClassifierSettings, about["settings"])
    network = build_network(settings, len(about["classes"]), "random")
    network.load_state_dict(state)
    return place(network, device).eval(), settings


def parameter_groups(
    network: LocalizationNetwork, settings: ClassifierSettings
) -> list[dict[str, Any]]:
    """SGD groups: trained backbone stages at ``learning_rate``, new layers at their own."""
    common = {"weight_decay": settings.weight_decay, "momentum": settings.momentum}
    new = [*network.classifier.parameters(), *network.side.parameters()]
    backbone = list(network.backbone.trainable_parameters())
    return [
        {"params": backbone, "lr": settings.learning_rate, **common},
        {"params": new, "lr": settings.learning_rate_new, **common},
    ]


def train_classifier(
    index: DatasetIndex,
    ids: list[str],
    settings: ClassifierSettings,
    seed: int,
    *,
    workers: int,
    fingerprint: str,
    checkpoint: Path,
) -> tuple[LocalizationNetwork, pd.DataFrame, dict[str, Any]]:
    """Train on the images ``ids``; returns network, history and what describes the network."""
    torch.manual_seed(seed)  # initial weights of the new layers
    device = default_device()
    network = build_network(settings, len(index.classes), settings.weights)

    def loss_function(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images = batch["image"]
        with autocast(device, settings.precision):
            stages = network.backbone(images)  # type: ignore[operator]
            features = network.heads(stages)  # type: ignore[operator]
        size = (images.shape[2], images.shape[3])
        return training_losses(features, batch["label"], batch["valid_box"], size, settings, images)

    fit_settings = FitSettings(
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_steps=None,
        clip_norm=settings.clip_norm,
        schedule_block=1,
        seed=seed,
        workers=workers,
        fingerprint=fingerprint,
    )
    history = fit(
        network,
        parameter_groups(network, settings),
        loss_function,
        ImageLabelDataset(index, ids, settings, seed),
        fit_settings,
        device,
        checkpoint,
    )
    about = {"settings": asdict(settings), "classes": list(index.classes), "seed": seed}
    return network, history, about
