"""Pixel-adaptive mask refinement (PAMR): soft masks follow the edges of their image.

In: images [B, 3, H, W] in [0, 1] and soft masks [B, K, h, w]. Out: masks [B, K, H, W]. Every
iteration replaces a pixel by the weighted mean of its neighbours, alike ones weighing more. The
weights are computed once per image; an iteration sums shifted views of the padded mask, so memory
stays at a few tensors of the mask's size. Source: Araslanov and Roth (CVPR 2020), their published
code; AE-SIPE (Im, An, Lee, JBE 2024) refines IS-CAMs with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

DILATIONS = (1, 2, 4, 8, 12, 24)  # pixels
ITERATIONS = 10
# (dy, dx), times the dilation; the centre has no weight
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
FLOOR = 1e-8  # keeps a flat window, where differences and deviation are 0, from 0 / 0
BANDWIDTH = 0.1  # share of the deviation at which the absolute kernel falls to 1 / e


def shifted_views(tensor: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Values of each neighbour at every pixel, [.., H, W], by dilation, then by `NEIGHBOURS`.

    Views of one padded copy of ``tensor`` [B, C, H, W]; borders repeat the outermost pixel.
    """
    height, width = tensor.shape[-2:]
    margin = max(dilations)
    padded = functional.pad(tensor, (margin,) * 4, mode="replicate")
    for dilation in dilations:
        for dy, dx in NEIGHBOURS:
            top, left = margin + dilation * dy, margin + dilation * dx
            yield padded[..., top : top + height, left : left + width]


def local_deviation(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Unbiased standard deviation of each channel around each pixel, [B, 3, H, W].

    The sample is the 3 x 3 window of every dilation, so the centre counts once per dilation. Sums
    run over differences from the centre: flat windows give exactly 0.
    """
    count = 9 * len(dilations)
    total, squares = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in shifted_views(image, dilations):
        difference = neighbour - image
        total += difference
        squares.addcmul_(difference, difference)
    return ((squares - total.square() / count) / (count - 1)).clamp(min=0).sqrt()


def neighbour_weights(
    image: Tensor, dilations: Sequence[int] = DILATIONS, kernel: str = "absolute"
) -> Tensor:
    """Weight of every neighbour at every pixel, [B, 8 D, H, W], in the order of `shifted_views`.

    Softmax over the 8 neighbours of all D dilations, so they sum to 1. The logit comes from the
    differences d and deviations sigma of the three channels.

    Args:
        image: [B, 3, H, W] in [0, 1].
        kernel: ``absolute``, minus the mean of |d| / (1e-8 + 0.1 sigma) (published code), or
            ``gaussian``, minus the sum of d^2 / (1e-8 + sigma^2) (equation in AE-SIPE).

    Raises:
        ValueError: unknown kernel.
    """
    deviation = local_deviation(image, dilations)
    if kernel == "absolute":
        scale, power = image.shape[1] * (FLOOR + BANDWIDTH * deviation), 1
    elif kernel == "gaussian":
        scale, power = FLOOR + deviation.square(), 2
    else:
        raise ValueError(f"unknown kernel {kernel!r}; known: absolute, gaussian")
    height, width = image.shape[-2:]
    logits = image.new_empty(len(image), len(NEIGHBOURS) * len(dilations), height, width)
    for number, neighbour in enumerate(shifted_views(image, dilations)):
        logits[:, number] = -((neighbour - image).abs() ** power / scale).sum(dim=1)
    return logits.softmax(dim=1)


@torch.no_grad()
def pamr(
    image: Tensor,
    mask: Tensor,
    dilations: Sequence[int] = DILATIONS,
    iterations: int = ITERATIONS,
    kernel: str = "absolute",
) -> Tensor:
    """Refined masks [B, K, H, W] at the image's size, in the range of ``mask``.

    Carries no gradient.

    Args:
        image: [B, 3, H, W] in [0, 1].
        mask: [B, K, h, w]; resized first (bilinear, align_corners True) where its size differs.
        dilations: distances of the neighbours, pixels.
        kernel: see `neighbour_weights`.
    """
    size = (image.shape[2], image.shape[3])
    if mask.shape[-2:] != size:
        mask = functional.interpolate(mask, size, mode="bilinear", align_corners=True)
    weights = neighbour_weights(image, dilations, kernel)
    for _ in range(iterations):
        refined = torch.zeros_like(mask)
        for weight, neighbour in zip(
            weights.split(1, dim=1), shifted_views(mask, dilations), strict=True
        ):
            refined.addcmul_(weight, neighbour)
        mask = refined
    return mask
