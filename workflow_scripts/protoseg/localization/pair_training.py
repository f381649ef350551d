"""The losses of one batch of pairs (RPNet), composed from the parts of `cross_image`.

In: a network with a branch over pairs, the features of B = 2P images (of every region), labels
[B, K]. Out: named losses. Source: RPNet (arXiv 2108.07413); what the default follows is in the
settings, `classifier.pair_*`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.localization.cross_image import (
    PairFeatures,
    attention_map,
    foreground_map,
    region_mask,
    region_masks,
    region_prototypes,
)
from protoseg.localization.cross_image_losses import cross_image_losses, pair_classification_loss
from protoseg.localization.network import Features, LocalizationNetwork
from protoseg.localization.regions import Reader, region_features
from protoseg.settings.classifier import ClassifierSettings
from protoseg.training.precision import autocast


def pair_foreground(pair: PairFeatures, settings: ClassifierSettings) -> Tensor:
    """FM [B, 1, h, w] of one region; pixels that fall out come from torch's CPU generator."""
    mask = region_mask(pair.compared, settings.pair_mask)
    prototypes = [
        region_prototypes(
            level,
            region_masks(mask, settings.pair_drop, torch.default_generator, settings.pair_masks),
        )
        for level in pair.levels
    ]
    return foreground_map(
        pair.levels, prototypes, pair.compared, settings.pair_reading, settings.pair_images
    )


def enhanced_logits(
    network: LocalizationNetwork, features: Features, settings: ClassifierSettings
) -> Tensor:
    """Logits [B, K, h, w] of the first region's last block, enhanced by the regions' largest FM."""
    pairs = [region.pair for region in features.regions if region.pair is not None]
    foreground = torch.stack([pair_foreground(pair, settings) for pair in pairs]).amax(0)
    attention = attention_map(foreground, settings.pair_factor, settings.pair_gaussian)
    with autocast(attention.device, settings.precision), kept_statistics(network):
        return network.classify(attention * pairs[0].last).float()


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """BatchNorm in training mode uses the batch, but leaves its running statistics as they are.

    They belong to what the network sees at inference: plain features at the image's own scale.
    """
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the latter where several GPUs train
    norms = [m for m in network.modules() if isinstance(m, kinds) and m.training]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def pair_losses(
    network: LocalizationNetwork,
    features: Features,
    images: Tensor,
    label: Tensor,
    settings: ClassifierSettings,
    read: Reader,
) -> dict[str, Tensor]:
    """Named losses of a batch of pairs; ``total`` is what is minimised.

    Args:
        images: [B, 3, H, W], pair i at rows 2i and 2i + 1. label: [B, K], 0 or 1.
        read: forward pass of one region's network, for the further scales.
    """
    enhanced = [enhanced_logits(network, features, settings)]
    with torch.no_grad(), kept_statistics(network):
        for scale in settings.pair_scales:
            resized = functional.interpolate(images, scale_factor=scale, mode="bilinear")
            found = region_features(network, resized, label, settings.region_threshold, read)
            enhanced.append(enhanced_logits(network, found, settings))
    losses = cross_image_losses(features.logits, enhanced, label, settings.pair_weight)
    for number, region in enumerate(features.further, 2):
        losses[f"classification_{number}"] = pair_classification_loss(region.logits, label)
    return losses | {"total": torch.stack(list(losses.values())).sum()}
