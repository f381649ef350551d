"""Refinement of the IS-CAM: the steps between SIPE's maps and those of AE-SIPE.

In: the first IS-CAM [B, K+1, h, w], features [B, C, h, w] and normalised images [B, 3, H, W]. Out:
the last IS-CAM [B, K+1, h, w]. The steps are a tuple, so that every order of AE-SIPE's table 3 is
one: () is SIPE, ("pamr", "prototypes") AE-SIPE. Source: AE-SIPE (Im, An, Lee, JBE 2024), tables 2
and 3, and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.data.images import MEAN, STD
from protoseg.localization.cam import EPSILON, normalize_by_maximum
from protoseg.localization.pamr import DILATIONS, ITERATIONS, pamr
from protoseg.localization.prototypes import ClassPrototypes, prototype_maps, seed_prototypes
from protoseg.localization.seeds import one_hot_argmax

SHRINK = 4  # PAMR sees the image at a quarter of the network's input


def quarter_image(images: Tensor) -> Tensor:
    """Normalised images [B, 3, H, W] -> [B, 3, H // 4, W // 4] in [0, 1] (align_corners True)."""
    mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    size = (max(1, images.shape[2] // SHRINK), max(1, images.shape[3] // SHRINK))
    # mapped back before the resize: flat areas stay as flat as in the published code
    plain = images * deviation + mean
    return functional.interpolate(plain, size, mode="bilinear", align_corners=True)


def seed_maps(
    feature: Tensor,
    seeds: Tensor,
    background_prototype: bool,
    class_prototypes: ClassPrototypes | None = None,
) -> Tensor:
    """IS-CAM [B, K+1, h, w] of seeds [B, K+1, h, w]: prototypes, then ReLU of the cosine.

    Without a background prototype the background map is 1 - max of the foreground maps. Class
    prototypes, where given, are blended into those of the seeds.
    """
    prototypes = seed_prototypes(feature, seeds)
    if class_prototypes is not None:
        prototypes = class_prototypes.blend(prototypes)
    maps = prototype_maps(feature, prototypes)
    if background_prototype:
        return maps
    foreground = maps[:, 1:]
    return torch.cat([1.0 - foreground.amax(dim=1, keepdim=True), foreground], dim=1)


def refine_maps(
    maps: Tensor,
    feature: Tensor,
    images: Tensor | None,
    steps: Sequence[str],
    *,
    background_prototype: bool = True,
    kernel: str = "absolute",
    dilations: Sequence[int] = DILATIONS,
    iterations: int = ITERATIONS,
    class_prototypes: ClassPrototypes | None = None,
) -> Tensor:
    """Maps after all ``steps``, [B, K+1, h, w], not normalised; ``maps`` themselves without steps.

    `prototypes`: one-hot argmax of the maps as seeds, which no label or crop masks (classes without
    a map cannot win, ties go to the background), then `seed_maps`; gradient reaches the feature.
    `pamr`: the maps, all K+1 of them, refined over the quarter-size image and resized back to the
    grid (align_corners True); carries no gradient.

    Args:
        maps: first IS-CAM [B, K+1, h, w]; every step reads it detached.
        feature: [B, C, h, w] of prototypes. images: [B, 3, H, W], the network's input.
        kernel, dilations, iterations: see `pamr`. class_prototypes: see `seed_maps`.

    Raises:
        ValueError: unknown step, or `pamr` without images.
    """
    for step in steps:
        if step == "prototypes":
            seeds = one_hot_argmax(maps.detach())
            maps = seed_maps(feature, seeds, background_prototype, class_prototypes)
        elif step == "pamr" and images is not None:
            grid = (maps.shape[2], maps.shape[3])
            refined = pamr(quarter_image(images), maps.detach(), dilations, iterations, kernel)
            maps = functional.interpolate(refined, grid, mode="bilinear", align_corners=True)
        elif step == "pamr":
            raise ValueError("the step pamr refines maps over their images, none were given")
        else:
            raise ValueError(f"unknown step {step!r}; known: pamr, prototypes")
    return maps


def normalize_maps(maps: Tensor, rule: str) -> Tensor:
    """Each map [.., H, W] stretched: ``maximum`` divides by its maximum (published code).

    ``min_max`` subtracts the minimum first (AE-SIPE's text). An empty map stays empty.

    Raises:
        ValueError: unknown rule.
    """
    if rule == "maximum":
        return normalize_by_maximum(maps)
    if rule == "min_max":
        low, high = torch.aminmax(maps.flatten(-2), dim=-1, keepdim=True)
        low, high = low[..., None], high[..., None]
        return (maps - low) / (high - low + EPSILON)
    raise ValueError(f"unknown normalisation {rule!r}; known: maximum, min_max")
