"""Erasing: images and the maps of a region -> the images that the next region is found in.

In: normalised images [B, 3, H, W], CAM of the foreground [B, K, h, w] in [0, 1], labels [B, K].
Out: the images, 0 where a present class was found already. Source: RPC, equation 5 and tables 7
and 9:

    x' = 1(max_k M_k < threshold) * x

M is divided by its maximum, masked by the labels and upsampled to the image. Images are erased
after normalisation, so an erased pixel has the mean colour of ImageNet. The paper does not define
the image of a third region; here it loses what both regions before it found, the union.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def strongest_response(cam: Tensor, label: Tensor, size: tuple[int, int]) -> Tensor:
    """Maximum over the present classes of the upsampled CAM: [B, 1, H, W] in [0, 1], no gradient.

    An image without labels has zeros. Only present classes are upsampled (bilinear, align_corners
    False): one map of full size per label, not one per class.

    Args:
        cam: [B, K, h, w], each map divided by its maximum; without the background.
        label: [B, K] image-level labels, 0 or 1. size: image (H, W).

    Raises:
        ValueError: as many maps as labels are needed; the background map was probably left in.
    """
    if cam.shape[:2] != label.shape:
        raise ValueError(
            f"CAM of {tuple(cam.shape)} and labels of {tuple(label.shape)}; give one map per "
            "class, without the background"
        )
    strongest = cam.new_zeros(len(cam), 1, *size)
    for i, present in enumerate(label > 0):
        if present.any():
            maps = functional.interpolate(cam[i : i + 1, present], size, mode="bilinear")
            strongest[i] = maps.amax(dim=1)
    return strongest


def keep_mask(cam: Tensor, label: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """The indicator of equation 5: [B, 1, H, W], true is keep.

    Pixels below the threshold are always kept, those at it or above it never.
    """
    return strongest_response(cam, label, size) < threshold


def erase(images: Tensor, cams: Sequence[Tensor], label: Tensor, threshold: float) -> Tensor:
    """Images of the next region, [B, 3, H, W]: 0 where a region so far has found a class.

    Args:
        images: [B, 3, H, W], normalised; those of the first region, not erased ones.
        cams: CAM [B, K, h, w] of every region so far: one gives the second region's images
            (equation 5), two give the third's, which lose the union.
        threshold: in [0, 1]; the paper's best is 0.7 (table 9).
    """
    size = (images.shape[2], images.shape[3])
    for cam in cams:
        images = images * keep_mask(cam, label, size, threshold)
    return images
