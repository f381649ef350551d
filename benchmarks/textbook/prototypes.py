"""Prototypes of SIPE and PAMR of AE-SIPE as their published code computes them: by broadcasting.

In: logits, features, the mask of labels and crop. Out: IS-CAM, its losses; refined masks. A tensor
[B, K+1, N, N] holds the products of every pixel's structure with every map, one [B, K+1, C, N] the
features under every class's seeds, one [B, K, 8 D, H, W] all neighbours of every mask.
Source: SIPE, equations 1 to 11; Araslanov and Roth (CVPR 2020), as AE-SIPE applies it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 1e-5
DILATIONS = (1, 2, 4, 8, 12, 24)


def training_losses(logits: Tensor, semantic: Tensor, hierarchical: Tensor, keep: Tensor) -> Tensor:
    """Classification and consistency loss of a SIPE step, [2].

    Args:
        logits: [B, K, H, W]. semantic: [B, C, H, W]. hierarchical: [B, C_h, H, W].
        keep: [B, K+1, H, W] of 0 and 1, background first: labels times the crop's real pixels.
    """
    label = keep[:, 1:].amax(dim=(2, 3))  # [B, K]
    score = functional.adaptive_avg_pool2d(logits, 1).flatten(1)
    classification = functional.multilabel_soft_margin_loss(score, label)
    cam = maps_with_background(logits) * keep
    seeds = structure_seeds(cam, semantic) * keep
    maps = prototype_maps(hierarchical, seeds)
    maps = maps / (functional.adaptive_max_pool2d(maps, 1) + SMALL)
    return torch.stack([classification, (cam - maps).abs().mean()])


def maps_with_background(logits: Tensor) -> Tensor:
    """CAM [B, K+1, H, W] of logits [B, K, H, W], background first."""
    foreground = functional.relu(logits)
    foreground = foreground / (functional.adaptive_max_pool2d(foreground, 1) + SMALL)
    background = 1 - foreground.max(dim=1, keepdim=True).values
    return torch.cat([background, foreground], dim=1)


def structure_seeds(cam: Tensor, feature: Tensor) -> Tensor:
    """Seeds, one-hot [B, K+1, H, W]: the map that each pixel's structure overlaps most."""
    batch, classes, height, width = cam.shape
    vectors = feature.flatten(2)  # [B, C, N]
    vectors = vectors / (vectors.norm(dim=1, keepdim=True) + SMALL)
    structure = functional.relu(vectors.transpose(1, 2) @ vectors)[:, None]  # [B, 1, N, N]
    maps = cam.flatten(2)[:, :, None]  # [B, K+1, 1, N]
    intersection = (structure * maps).sum(dim=-1)  # [B, K+1, N], of [B, K+1, N, N]
    union = structure.sum(dim=-1) + maps.sum(dim=-1) - intersection
    similarity = intersection / (union + SMALL)
    factor = torch.ones(classes, 1)
    factor[0] = 0.5
    winners = (similarity * factor).argmax(dim=1)  # [B, N]
    one_hot = functional.one_hot(winners, classes).to(cam.dtype)  # [B, N, K+1]
    return one_hot.transpose(1, 2).reshape(batch, classes, height, width)


def prototype_maps(feature: Tensor, seeds: Tensor) -> Tensor:
    """IS-CAM [B, K+1, H, W]: the cosine with the mean of the feature under each class's seeds.

    A mean over the grid in place of the seeds has the same direction.
    """
    masked = seeds[:, :, None] * feature[:, None]  # [B, K+1, C, H, W]
    prototypes = masked.mean(dim=(3, 4), keepdim=True)  # [B, K+1, C, 1, 1]
    return functional.relu(functional.cosine_similarity(feature[:, None], prototypes, dim=2))


def neighbourhood(tensor: Tensor, dilations: tuple[int, ...], *, centre: bool) -> Tensor:
    """Values of the 3 x 3 window of every dilation, [B, C, 8 D or 9 D, H, W].

    A convolution of one-hot kernels gathers them from a copy padded by its own border.
    """
    batch, channels, height, width = tensor.shape
    kernels = torch.eye(9).view(9, 1, 3, 3)
    if not centre:
        kernels = kernels[[0, 1, 2, 3, 5, 6, 7, 8]]
    planes = tensor.reshape(batch * channels, 1, height, width)
    found = []
    for dilation in dilations:
        padded = functional.pad(planes, [dilation] * 4, mode="replicate")
        values = functional.conv2d(padded, kernels, dilation=dilation)
        found.append(values.view(batch, channels, len(kernels), height, width))
    return torch.cat(found, dim=2)


@torch.no_grad()
def pamr(
    image: Tensor, mask: Tensor, dilations: tuple[int, ...] = DILATIONS, iterations: int = 10
) -> Tensor:
    """Masks [B, K, H, W] after weighted averaging over neighbours that look alike.

    Args:
        image: [B, 3, H, W] in [0, 1]. mask: [B, K, h, w], resized to it first.
    """
    mask = functional.interpolate(mask, image.shape[2:], mode="bilinear", align_corners=True)
    deviation = neighbourhood(image, dilations, centre=True).std(dim=2, keepdim=True)
    difference = (neighbourhood(image, dilations, centre=False) - image[:, :, None]).abs()
    logits = -difference / (1e-8 + 0.1 * deviation)  # [B, 3, 8 D, H, W]
    weights = logits.mean(dim=1, keepdim=True).softmax(dim=2)  # [B, 1, 8 D, H, W]
    for _ in range(iterations):
        mask = (neighbourhood(mask, dilations, centre=False) * weights).sum(dim=2)
    return mask
