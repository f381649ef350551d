"""Training images with image-level labels, for stage 1.

In: an index, a list, the classifier's settings. Out: per item an image [3, crop, crop] float32,
normalised; its label [K]; the box of real pixels [4]. Masks are never opened here.
Source: SIPE section 4.1 and its code: long side to a random integer (bicubic), flip, random crop,
zero padding after normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex
from protoseg.settings.classifier import ClassifierSettings


def crop_box(size: int, crop: int, random: np.random.Generator) -> tuple[int, int, int]:
    """Where a random crop starts in the image and in the canvas, and how long it is.

    A longer image is cropped anywhere, a shorter one lies anywhere in the canvas.
    """
    length = min(size, crop)
    start = int(random.integers(size - length + 1))
    offset = int(random.integers(crop - length + 1))
    return start, offset, length


def augment(
    image: Image.Image, crop: int, long_side: Sequence[int], random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Random scale, flip and crop: image [3, crop, crop] and box of real pixels (y0, y1, x0, x1).

    Args:
        long_side: range of the long side in pixels, both ends included.
        random: the only source of randomness.
    """
    target = int(random.integers(long_side[0], long_side[1] + 1))
    scale = target / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    top, y0, rows = crop_box(height, crop, random)
    left, x0, columns = crop_box(width, crop, random)
    pixels = image.crop((left, top, left + columns, top + rows))
    canvas = torch.zeros(3, crop, crop)
    canvas[:, y0 : y0 + rows, x0 : x0 + columns] = normalize(np.asarray(pixels))
    return canvas, torch.tensor([y0, y0 + rows, x0, x0 + columns])


class ImageLabelDataset(Dataset[dict[str, Tensor]]):
    """Augmented training images of a list; item (epoch, position) is a function of the seed."""

    def __init__(
        self, index: DatasetIndex, ids: Sequence[str], settings: ClassifierSettings, seed: int
    ) -> None:
        self.index, self.ids, self.settings, self.seed = index, list(ids), settings, seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, position = key
        record = self.index[self.ids[position]]
        random = np.random.default_rng((self.seed, epoch, position))
        image, box = augment(
            read_image(record.image), self.settings.crop, self.settings.long_side, random
        )
        label = torch.from_numpy(self.index.label_vector(record.id))
        return {"image": image, "label": label, "valid_box": box}
