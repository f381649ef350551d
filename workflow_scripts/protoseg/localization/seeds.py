"""Seeds: which pixels of the grid stand for which class.

In: a CAM [B, K+1, H, W] (background first) and features. Out: seeds [B, K+1, H, W], one-hot but
for the rule ``soft``.
Source: SIPE section 3.2, equations 3 to 5; figure 8 for the simpler rules.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import EPSILON

ROWS = 256  # of the similarity matrix at a time, which so stays in a processor's cache


def unit_features(feature: Tensor) -> Tensor:
    """Divide each pixel's vector of [B, C, H, W] by (its L2 norm + 1e-5)."""
    return feature / (feature.norm(dim=1, keepdim=True) + EPSILON)


def structure_similarity(cam: Tensor, feature: Tensor, background_factor: float) -> Tensor:
    """Soft IoU of each pixel's structure with each class map: [B, K+1, H, W], in [0, 1].

    The structure of pixel i is row i of S = ReLU(cosine of features), [N, N].

    Args:
        cam: [B, K+1, H, W] in [0, 1], background first.
        feature: [B, C, h, w]; resized (bilinear) to the CAM's grid where it differs.
        background_factor: multiplies the background's similarity. The published code uses 0.5;
            the paper scales the background map instead (equation 2).
    """
    if feature.shape[-2:] != cam.shape[-2:]:
        feature = functional.interpolate(feature, cam.shape[-2:], mode="bilinear")
    maps = cam.flatten(2)  # [B, K+1, N]
    intersection, area = structure_overlap(maps, unit_features(feature).flatten(2))
    union = maps.sum(2, keepdim=True) + area - intersection
    similarity = (intersection / (union + EPSILON)).view_as(cam)
    background, foreground = similarity[:, :1], similarity[:, 1:]
    return torch.cat([background * background_factor, foreground], dim=1)


def structure_overlap(maps: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """M S [B, K+1, N] and the row sums of S [B, 1, N] for S = ReLU(V^T V), which is symmetric.

    Blocks of its rows, from the diagonal on, serve both halves: little more than half of the
    products, and no tensor larger than [B, `ROWS`, N].

    Args:
        maps: M [B, K+1, N]. vectors: V [B, C, N].
    """
    overlap, area = torch.zeros_like(maps), torch.zeros_like(maps[:, :1])
    for start in range(0, maps.shape[2], ROWS):
        rows, after = slice(start, start + ROWS), slice(start + ROWS, None)
        block = (vectors[..., rows].transpose(1, 2) @ vectors[..., start:]).relu_()
        right = block[..., ROWS:]
        overlap[..., rows] += maps[..., start:] @ block.transpose(1, 2)
        overlap[..., after] += maps[..., rows] @ right
        area[:, 0, rows] += block.sum(2)
        area[:, 0, after] += right.sum(1)
    return overlap, area


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot of the channel-wise argmax, [B, K+1, H, W], in the dtype of ``scores``."""
    return torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0)


def threshold_seeds(cam: Tensor, threshold: float) -> Tensor:
    """Strongest foreground class where it exceeds ``threshold``, background elsewhere."""
    constant = torch.full_like(cam[:, :1], threshold)
    return one_hot_argmax(torch.cat([constant, cam[:, 1:]], dim=1))


@torch.no_grad()
def make_seeds(
    cam: Tensor, feature: Tensor, rule: str, background_factor: float, threshold: float
) -> Tensor:
    """Seeds by ``rule``: ``structure`` (SIPE), ``argmax`` or ``threshold`` of the CAM, or ``soft``.

    Carries no gradient (equation 5 is a hard assignment). Not masked by labels. ``soft`` is the CAM
    itself: every pixel weighs as much as its score (RPC, equation 6).
    """
    if rule == "structure":
        return one_hot_argmax(structure_similarity(cam, feature, background_factor))
    if rule == "argmax":
        return one_hot_argmax(cam)
    if rule == "threshold":
        return threshold_seeds(cam, threshold)
    if rule == "soft":
        return cam.detach()
    raise ValueError(f"unknown seed rule {rule!r}; known: structure, argmax, threshold, soft")
