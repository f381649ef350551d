"""Training of the classifier: index -> weights and history (stage `train_classifier`)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from protoseg.backbones import build_backbone
from protoseg.backbones.folding import for_evaluation
from protoseg.data.classification import ImageLabelDataset
from protoseg.data.fraction import draw_fraction
from protoseg.data.index import DatasetIndex
from protoseg.data.pairs import PairDataset, flatten_pairs
from protoseg.localization.attention import build_attention
from protoseg.localization.cross_image import PairBranch
from protoseg.localization.method import training_losses
from protoseg.localization.network import Features, LocalizationNetwork
from protoseg.localization.pair_training import pair_losses
from protoseg.localization.regions import region_features
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.fields import from_mapping
from protoseg.training.checkpoint import load_weights
from protoseg.training.fit import Batch, FitSettings, fit
from protoseg.training.precision import autocast, default_device


def build_network(
    settings: ClassifierSettings, num_classes: int, weights: str
) -> LocalizationNetwork:
    """Network of ``settings``, one per region, with initial ``weights`` for the backbones."""
    regions = [build_region(settings, num_classes, weights) for _ in range(settings.regions)]
    regions[0].further.extend(regions[1:])
    return regions[0]


def build_region(
    settings: ClassifierSettings, num_classes: int, weights: str
) -> LocalizationNetwork:
    """The network of one region."""
    backbone = build_backbone(
        settings.backbone,
        weights,
        frozen_stages=settings.frozen_stages,
        batch_norm=settings.batch_norm,  # type: ignore[arg-type]
    )
    attention = build_attention(
        settings.attention,
        backbone.widths,
        settings.attention_levels,
        fusion=settings.attention_fusion,
    )
    pairs = None
    if settings.prototypes == "pairs":
        pairs = PairBranch(
            backbone.widths[1:],
            settings.pair_levels,
            settings.pair_width,
            settings.pair_reading,
            settings.pair_nonlocal,
        )
    sides = settings.side_widths if settings.prototypes == "image" else ()
    return LocalizationNetwork(backbone, num_classes, sides, attention, pairs)


def load_network(
    path: Path, device: torch.device
) -> tuple[LocalizationNetwork, ClassifierSettings]:
    """Trained network for evaluation alone, and the settings it was trained with."""
    state, about = load_weights(path)
    settings = from_mapping(ClassifierSettings, about["settings"])
    network = build_network(settings, len(about["classes"]), "random")
    network.load_state_dict(state)
    return for_evaluation(network, device), settings


def parameter_groups(
    network: LocalizationNetwork, settings: ClassifierSettings
) -> list[dict[str, Any]]:
    """SGD groups: trained backbone stages at ``learning_rate``, new layers at their own."""
    common = {"weight_decay": settings.weight_decay, "momentum": settings.momentum}
    regions: list[LocalizationNetwork] = [network, *network.further]
    fixed = {id(p) for region in regions for p in region.backbone.parameters()}
    backbones = [p for region in regions for p in region.backbone.trainable_parameters()]
    new = [p for p in network.parameters() if id(p) not in fixed]
    return [
        {"params": backbones, "lr": settings.learning_rate, **common},
        {"params": new, "lr": settings.learning_rate_new, **common},
    ]


def compile_backbones(network: LocalizationNetwork) -> None:
    """Compile the backbone of every region, in place; the state dict keeps its keys.

    The rest stays as it is: seeds, prototypes and losses are a small part of a step, and RPNet's
    take random numbers of the CPU.
    """
    regions: list[LocalizationNetwork] = [network, *network.further]
    for region in regions:
        region.backbone.compile()


def batch_losses(
    network: LocalizationNetwork, batch: Batch, settings: ClassifierSettings
) -> dict[str, Tensor]:
    """Named losses of a batch of images, or of pairs of images."""
    pairs = settings.prototypes == "pairs"
    if pairs:
        batch = flatten_pairs(batch)
    images, label = batch["image"].contiguous(memory_format=torch.channels_last), batch["label"]

    def read(region: LocalizationNetwork, images: Tensor) -> Features:
        with autocast(images.device, settings.precision):
            return region.heads(region.backbone(images))

    features = region_features(network, images, label, settings.region_threshold, read)
    if pairs:
        return pair_losses(network, features, images, label, settings, read)
    size = (images.shape[2], images.shape[3])
    return training_losses(features, label, batch["valid_box"], size, settings, images)


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
    ids = draw_fraction(index, ids, settings.fraction, seed)
    images = ImageLabelDataset(index, ids, settings, seed)
    pairs = settings.prototypes == "pairs"
    if settings.compile:
        compile_backbones(network)
    fit_settings = FitSettings(
        batch_size=settings.batch_size // 2 if pairs else settings.batch_size,
        epochs=settings.epochs,
        max_steps=None,
        clip_norm=settings.clip_norm,
        schedule_block=1,
        seed=seed,
        workers=workers,
        fingerprint=fingerprint,
        unused_parameters=True,  # such as side branches without a consistency loss
    )
    history = fit(
        network,
        parameter_groups(network, settings),
        partial(batch_losses, settings=settings),
        PairDataset(images) if pairs else images,
        fit_settings,
        device,
        checkpoint,
    )
    about = {"settings": asdict(settings), "classes": list(index.classes), "seed": seed}
    return network, history, about
