"""Training of the segmenter: images + label maps -> weights (stage `train_segmenter`)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from protoseg.backbones import build_backbone
from protoseg.backbones.folding import for_evaluation
from protoseg.backbones.transfer import classifier_backbone
from protoseg.data.labelled import LabelledDataset
from protoseg.segmentation.deeplab import SEGMENTERS, Segmenter
from protoseg.segmentation.initial import start_from_segmenter
from protoseg.segmentation.losses import LOSSES, multi_scale_loss
from protoseg.segmentation.optimization import parameter_groups
from protoseg.settings.fields import from_mapping
from protoseg.settings.schema import SegmenterSettings
from protoseg.training.checkpoint import load_weights
from protoseg.training.fit import Batch, FitSettings, fit
from protoseg.training.precision import autocast, default_device


def build_segmenter(settings: SegmenterSettings, num_classes: int, weights: str) -> Segmenter:
    """The network of ``settings.head`` with initial ``weights`` for its backbone."""
    backbone = build_backbone(
        settings.backbone,
        weights,
        output_stride=settings.output_stride,
        frozen_stages=0,
        batch_norm=settings.batch_norm,  # type: ignore[arg-type]
    )
    width = backbone.widths[-1]
    segmenter = SEGMENTERS[settings.head]
    return segmenter(backbone, width, num_classes, settings.rates, settings.train_scales)


def initial_network(
    settings: SegmenterSettings, num_classes: int, classifier: Path | None
) -> Segmenter:
    """The network before training: from `init`, from the classifier or from `weights`."""
    elsewhere = settings.init or settings.weights == "classifier"
    network = build_segmenter(settings, num_classes, "random" if elsewhere else settings.weights)
    if settings.init:
        start_from_segmenter(network, Path(settings.init), num_classes)
    elif settings.weights == "classifier":
        classifier_backbone(network.backbone, classifier)  # type: ignore[arg-type]
    return network


def load_segmenter(path: Path, device: torch.device) -> Segmenter:
    """Trained segmenter for evaluation alone."""
    state, about = load_weights(path)
    settings = from_mapping(SegmenterSettings, about["settings"])
    network = build_segmenter(settings, len(about["class_names"]), "random")
    network.load_state_dict(state)
    return for_evaluation(network, device)


def batch_losses(
    network: nn.Module, batch: Batch, settings: SegmenterSettings
) -> dict[str, Tensor]:
    """Named losses of a batch of images and label maps."""
    with autocast(batch["image"].device, settings.precision):
        logits = network(batch["image"])
    return multi_scale_loss(logits, batch["label"], LOSSES[settings.loss])


def train_segmenter(
    dataset: LabelledDataset,
    settings: SegmenterSettings,
    seed: int,
    *,
    classifier: Path | None,
    workers: int,
    fingerprint: str,
    checkpoint: Path,
) -> tuple[Segmenter, pd.DataFrame, dict[str, Any]]:
    """Train; returns network, history and what describes the network."""
    torch.manual_seed(seed)  # initial weights of the head
    names = dataset.index.class_names
    network = initial_network(settings, len(names), classifier)
    if settings.compile:
        network.compile()
    fit_settings = FitSettings(
        batch_size=settings.batch_size,
        epochs=1,
        max_steps=settings.iterations,
        clip_norm=0.0,
        schedule_block=settings.schedule_block,
        seed=seed,
        workers=workers,
        fingerprint=fingerprint,
        unused_parameters=False,
        accumulate=settings.accumulate,
    )
    groups = parameter_groups(
        network,
        settings.learning_rate,
        settings.weight_decay,
        settings.momentum,
        train_norms=settings.batch_norm == "batch",
    )
    loss_function = partial(batch_losses, settings=settings)
    device = default_device()
    history = fit(network, groups, loss_function, dataset, fit_settings, device, checkpoint)
    about = {"settings": asdict(settings), "class_names": names, "seed": seed}
    return network, history, about
