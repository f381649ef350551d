"""Class activation maps: classifier logits -> maps in [0, 1], background first.

In: raw logits [B, K, H, W]. Out: CAM [B, K+1, H, W], channel 0 the background.
Source: SIPE section 3.1, equations 1 and 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5


def normalize_by_maximum(maps: Tensor) -> Tensor:
    """Divide each map [..., H, W] by (its spatial maximum + 1e-5)."""
    return maps / (maps.amax(dim=(-2, -1), keepdim=True) + EPSILON)


def foreground_cam(logits: Tensor) -> Tensor:
    """ReLU and division by the spatial maximum: [B, K, H, W] -> [B, K, H, W] in [0, 1)."""
    return normalize_by_maximum(functional.relu(logits.float()))


def class_activation_maps(logits: Tensor, background_scale: float = 1.0) -> Tensor:
    """CAM with background: [B, K, H, W] -> [B, K+1, H, W], channel 0 = scale * (1 - max_k M_k).

    The maximum runs over all K classes, absent ones included (published code). ``background_scale``
    is the paper's alpha of equation 2 (0.5); the code leaves it at 1 and attenuates the background
    similarity instead.
    """
    foreground = foreground_cam(logits)
    background = background_scale * (1.0 - foreground.amax(dim=1, keepdim=True))
    return torch.cat([background, foreground], dim=1)


def grid_validity(
    label: Tensor, valid_box: Tensor, image_size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Mask that enters the network in training, [B, K+1, h, w] of 0 and 1 (1 is keep).

    Background: 1 where the crop holds real pixels; foreground: that times the image-level label.
    The full-size mask is sampled by nearest at the grid, pixel (floor(i * H / h), ...).

    Args:
        label: [B, K] image-level labels, 0 or 1.
        valid_box: [B, 4] rows y0, y1 and columns x0, x1 of the real pixels in the crop.
    """
    rows = torch.arange(grid[0], device=label.device) * image_size[0] // grid[0]
    columns = torch.arange(grid[1], device=label.device) * image_size[1] // grid[1]
    y0, y1, x0, x1 = valid_box.to(label.device).unbind(1)
    inside_y = (rows >= y0[:, None]) & (rows < y1[:, None])  # [B, h]
    inside_x = (columns >= x0[:, None]) & (columns < x1[:, None])  # [B, w]
    inside = (inside_y[:, :, None] & inside_x[:, None, :]).float()  # [B, h, w]
    present = functional.pad(label.float(), (1, 0), value=1.0)  # [B, K+1]
    return present[:, :, None, None] * inside[:, None]
