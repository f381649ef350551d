"""Scores and labels at image size, from localization maps that walk.

In: maps of images and their edge maps. Out: scores [C, H, W], labels [H, W]. Source: IRN (Ahn et
al., CVPR 2019), section 5.2; the variant with a background map is that of SIPE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.walk import STRIDE, WalkSettings, walk_together


class WalkInput(NamedTuple):
    """What the labels of one image are made from.

    Attributes:
        maps: [C, any, any], at least 0, on the device of the edge map.
        edge: [h, w], probabilities.
        size: height and width of the image, pixels.
        power: of the maps; 1 (IRN) or 1.5 (SIPE).
    """

    maps: Tensor
    edge: Tensor
    size: tuple[int, int]
    power: float


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with half-pixel centres and no low-pass: [C, any, any] -> [C, *size]."""
    return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def refined_scores(images: Sequence[WalkInput], settings: WalkSettings) -> list[Tensor]:
    """Scores [C, H, W] of each image at its size, the largest of all 1; the images walk together.

    Maps are resized to the grid (bilinear), raised to the power, multiplied by 1 - edge, walked,
    upsampled by 4 (bilinear), cut to the image and divided by their common maximum. A background
    map is one of the channels where there is one, and walks along.
    """
    edges = [image.edge for image in images]
    walked = walk_together([_start(image, settings.dtype) for image in images], edges, settings)
    return [_scores(maps, image.size) for maps, image in zip(walked, images, strict=True)]


def refined_labels(scores: Tensor, classes: Tensor, background: float | None) -> Tensor:
    """Labels [H, W] by argmax of scores [C, H, W]; ties go to the earlier channel.

    Args:
        classes: label of every channel, background first: [C + 1] with a ``background`` score,
            which is put in front as a constant (IRN: 0.25), or [C] with None, where the first
            channel is the background's own map (SIPE).
    """
    if background is not None:
        constant = scores.new_full((1, *scores.shape[1:]), background)
        scores = torch.cat([constant, scores])
    if len(classes) != len(scores):
        raise ValueError(
            f"{len(classes)} classes for {len(scores)} score maps: name every channel once, the "
            "background first"
        )
    best, channel = scores[0].clone(), torch.zeros_like(scores[0], dtype=torch.uint8)
    # running over channels: argmax along the first axis is ten times slower
    for number, score in enumerate(scores[1:], 1):
        channel.masked_fill_(score > best, number)
        torch.maximum(best, score, out=best)
    return classes.to(scores.device)[channel.long()]


def _start(image: WalkInput, dtype: torch.dtype) -> Tensor:
    rows, columns = image.edge.shape
    if not len(image.maps):
        return image.edge.new_zeros((0, rows, columns), dtype=dtype)
    resized = resize_maps(image.maps.to(dtype), (rows, columns))
    return resized.clamp(min=0).pow(image.power) * (1.0 - image.edge.to(dtype))


def _scores(walked: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(walked):
        return walked.new_zeros((0, *size))
    upsampled = resize_maps(walked, (STRIDE * walked.shape[1], STRIDE * walked.shape[2]))
    scores = upsampled[:, : size[0], : size[1]]
    return scores / scores.amax().clamp(min=torch.finfo(scores.dtype).tiny)
