"""Training augmentation of an image with its label map, for stages 4 and 6.

In: an RGB image and a label map of its size (255 ignored). Out: both after the same random scale,
mirror and crop: image [3, crop, crop] float32, ImageNet-normalised, 0 where padded; label map
[crop, crop] int64, 255 where padded. Source: the published codes of IRN (scale 0.5 to 1.5, crop
512) and DeepLabV2 (crop 321).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from protoseg.data.classification import crop_box
from protoseg.data.images import normalize

PADDED_LABEL = 255


def augment_with_label(
    image: Image.Image,
    label: NDArray[np.uint8],
    crop: int,
    scale: Sequence[float],
    random: np.random.Generator,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    hsv_jitter: int = 0,
) -> tuple[Tensor, Tensor]:
    """Random scale, mirror (p = 0.5) and crop of an image and its label map together.

    A side longer than the crop is cropped anywhere, a shorter one lies anywhere in the canvas.

    Args:
        image: RGB. label: [H, W] uint8 at the image's size; neither is changed.
        crop: side of the result in pixels.
        scale: lowest and highest factor, drawn uniformly; (1, 1) keeps the size. The scaled sides
            are rounded, half to even.
        random: the only source of randomness.
        resample: of the image (IRN: bicubic, DeepLabV2: bilinear); labels take the nearest.
        hsv_jitter: see `shift_colours`; 0 draws nothing.

    Returns:
        Image [3, crop, crop] float32 and label map [crop, crop] int64.

    Raises:
        ValueError: label and image differ in size, or the label is not [H, W] uint8.
    """
    if label.dtype != np.uint8 or label.shape != (image.height, image.width):
        raise ValueError(
            f"label is {label.dtype} of shape {label.shape}, the image needs uint8 of shape "
            f"{(image.height, image.width)}; remake the labels from the same images"
        )
    factor = float(random.uniform(scale[0], scale[1]))
    width, height = (max(1, round(side * factor)) for side in image.size)
    mirrored = random.random() < 0.5
    top, y0, rows = crop_box(height, crop, random)
    left, x0, columns = crop_box(width, crop, random)
    if hsv_jitter:
        image = shift_colours(image, random.integers(-hsv_jitter, hsv_jitter + 1, size=3).tolist())

    def view(picture: Image.Image, method: Image.Resampling) -> NDArray[np.uint8]:
        scaled = picture.resize((width, height), method)
        if mirrored:
            scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(scaled.crop((left, top, left + columns, top + rows)))

    pixels = torch.zeros(3, crop, crop)
    target = torch.full((crop, crop), PADDED_LABEL, dtype=torch.int64)
    inside = (slice(y0, y0 + rows), slice(x0, x0 + columns))
    pixels[:, *inside] = normalize(view(image, resample))
    nearest = view(Image.fromarray(label), Image.Resampling.NEAREST)
    target[inside] = torch.from_numpy(nearest.astype(np.int64))
    return pixels, target


def shift_colours(image: Image.Image, shifts: Sequence[int]) -> Image.Image:
    """RGB image with hue, saturation and value shifted, SEAM's colour augmentation of segmenters.

    Args:
        shifts: of hue in 180ths of the circle, which closes; of saturation and value in 255ths,
            which end at 0 and 255.
    """
    hsv = np.asarray(image.convert("HSV")).astype(np.int64)  # H, W, 3; hue in 256ths
    hue = (hsv[:, :, :1] + round(int(shifts[0]) * 256 / 180)) % 256
    others = np.clip(hsv[:, :, 1:] + np.asarray(shifts[1:]), 0, 255)
    shifted = np.concatenate([hue, others], axis=2).astype(np.uint8)
    return Image.frombytes("HSV", image.size, shifted.tobytes()).convert("RGB")
