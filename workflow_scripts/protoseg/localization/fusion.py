"""Fusion of the maps of several scales: the form in which localization maps are read.

In: maps of each scale at their own grid [n, h_s, w_s]. Out: [n, H, W] in [0, 1]. The maps are
stored per scale and fused on reading: the file is 20 times smaller and no value is rounded.
Source: SIPE section 4.1 (published code): sum over scales, then division by the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import normalize_by_maximum
from protoseg.storage import ScaleMaps


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Image size (H, W) at ``scale``; half rounds to even, as in the published code."""
    return int(np.round(size[0] * scale)), int(np.round(size[1] * scale))


def fuse_scales(scales: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Resize each [n, h, w] to ``size`` (bilinear, align_corners False), sum, divide by maximum."""
    total = torch.zeros((scales[0].shape[0], *size), dtype=torch.float32, device=scales[0].device)
    for maps in scales if len(total) else []:  # an image without labels has no CAM
        total += functional.interpolate(maps[None].float(), size, mode="bilinear")[0]
    return normalize_by_maximum(total)


def fused_maps(maps: ScaleMaps) -> NDArray[np.float32]:
    """Stored maps of an image, fused: [n, H, W] float32 in [0, 1]."""
    return fuse_scales([torch.from_numpy(scale) for scale in maps.scales], maps.size).numpy()
