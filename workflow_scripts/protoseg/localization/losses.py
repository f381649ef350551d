"""Losses of stage 1 as functions of tensors.

Sources: SIPE section 3.4, equations 8 to 11.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import normalize_by_maximum


def classification_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Multi-label soft margin of the image score, a scalar.

    The score is the spatial mean of the raw logits [B, K, H, W], padding included, without ReLU.
    """
    score = logits.float().mean(dim=(2, 3))  # [B, K]
    return functional.multilabel_soft_margin_loss(score, label)


def consistency_loss(cam: Tensor, prototype_cam: Tensor) -> Tensor:
    """General-specific consistency: mean |M - IS-CAM| over B x (K+1) x H x W (equation 10).

    Args:
        cam: masked CAM [B, K+1, H, W]; absent classes are zero and stay in the denominator.
        prototype_cam: IS-CAM [B, K+1, H, W], divided here by its maximum per channel.

    Both sides receive gradient.
    """
    return (cam - normalize_by_maximum(prototype_cam)).abs().mean()
