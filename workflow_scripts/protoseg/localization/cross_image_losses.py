"""Losses of RPNet as functions of tensors: classification of a pair, and its enhanced maps.

In: logits [B, K, h, w] of the original and of the enhanced features, B = 2P images with pair i at
rows 2i and 2i + 1, and labels [B, K]. Out: scalars, means over the pairs, summed over the two
images of a pair. Source: RPNet (arXiv 2108.07413) and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import EPSILON
from protoseg.localization.losses import classification_loss


def present_maps(logits: Tensor, label: Tensor) -> Tensor:
    """Maps of the present classes, [B, K, h, w] in [0, 1); zero for absent ones.

    ReLU of (ReLU - 1e-5), over (the spatial maximum + 1e-5): scores below 1e-5 are 0.
    """
    active = functional.relu(logits.float())
    top = active.amax(dim=(2, 3), keepdim=True)
    return functional.relu(active - EPSILON) / (top + EPSILON) * label[:, :, None, None]


def mean_over_scales(enhanced: Sequence[Tensor]) -> Tensor:
    """Mean of the ReLU of enhanced logits of several image scales, at the first one's grid.

    Args:
        enhanced: [B, K, h_s, w_s] each, resized (bilinear) before the ReLU. Only the first carries
            gradient; the code hands over scales 1, 0.5, 1.5 and 2, the paper scale 1 alone.
    """
    first, *others = enhanced
    total = functional.relu(first.float())
    for logits in others:
        resized = functional.interpolate(logits.detach().float(), first.shape[-2:], mode="bilinear")
        total = total + functional.relu(resized)
    return total / len(enhanced)


def enhancement_loss(logits: Tensor, enhanced: Tensor, label: Tensor) -> Tensor:
    """Mean squared difference of original and enhanced maps over B x K x h x w.

    Absent classes add 0 and stay in the denominator. Both sides receive gradient.
    """
    return (present_maps(logits, label) - present_maps(enhanced, label)).square().mean()


def pair_classification_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Classification of the first images of the pairs plus that of the second, as the code sums."""
    halves = [slice(which, None, 2) for which in (0, 1)]
    return torch.stack([classification_loss(logits[half], label[half]) for half in halves]).sum()


def cross_image_losses(
    logits: Tensor, enhanced: Sequence[Tensor], label: Tensor, weight: float
) -> dict[str, Tensor]:
    """Named losses of a batch of pairs: ``classification``, and ``enhancement`` times ``weight``.

    Args:
        logits: [B, K, h, w] of the original features; they alone are classified.
        enhanced: logits of the enhanced features, see `mean_over_scales`.
        label: [B, K] image-level labels, 0 or 1. weight: lambda, 10 in paper and code.
    """
    averaged = mean_over_scales(enhanced)
    halves = [slice(which, None, 2) for which in (0, 1)]
    differences = [enhancement_loss(logits[half], averaged[half], label[half]) for half in halves]
    return {
        "classification": pair_classification_loss(logits, label),
        "enhancement": weight * torch.stack(differences).sum(),
    }
