"""VOC's colours, and label maps as indexed PNG files.

In: a label map [H, W] uint8. Out: a PNG of mode P whose indices are the labels.
Source: VOC 2012 development kit (the colour map of its segmentation masks).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def voc_palette() -> NDArray[np.uint8]:
    """Colours [256, 3] uint8, RGB.

    Bits 3k, 3k + 1, 3k + 2 of the label become bit 7 - k of red, green, blue, so that
    neighbouring labels look different; 255 (void) is (224, 224, 192).
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, position = bit % 3, 7 - bit // 3
        colours[:, channel] |= (((labels >> bit) & 1) << position).astype(np.uint8)
    return colours


def save_label_png(path: str | os.PathLike[str], label_map: NDArray[np.uint8]) -> None:
    """Write a label map [H, W] uint8 as an indexed PNG with VOC's palette.

    Raises:
        ValueError: the map is not [H, W] uint8.
    """
    if label_map.dtype != np.uint8 or label_map.ndim != 2:
        raise ValueError(
            f"{Path(path).name}: a label map must be [H, W] of uint8, got "
            f"{list(label_map.shape)} of {label_map.dtype}"
        )
    height, width = label_map.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(label_map).tobytes())
    image.putpalette(voc_palette().tobytes())
    image.save(path, format="PNG")


def load_label_png(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read the labels [H, W] uint8 of an indexed or grey-scale PNG.

    Raises:
        ValueError: the file holds colours instead of labels.
    """
    with Image.open(path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"{path}: mode {image.mode}; masks must be indexed (P) or 8-bit grey (L) PNG files "
                "whose pixel values are class ids"
            )
        return np.array(image, np.uint8)
