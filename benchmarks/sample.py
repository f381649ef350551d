"""Images of 500 x 375 pixels that the benchmarks share: drawn ones, or VOC's.

The environment variable PROTOSEG_BENCH_IMAGES names a folder in VOC's layout (JPEGImages,
SegmentationClassAug); without it scenes of the demo data set are drawn at this size.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from protoseg.data.demo import draw_image
from protoseg.storage import ScaleMaps

HEIGHT, WIDTH = 375, 500
GRID = (24, 32)  # of the maps, at stride 16


class Sample(NamedTuple):
    """pixels: RGB [H, W, 3] uint8; mask: [H, W] uint8, 0 background, 255 ignored."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def samples(count: int) -> list[Sample]:
    """The first ``count`` images of 375 rows and 500 columns.

    Raises:
        FileNotFoundError: the folder has fewer.
    """
    folder = os.environ.get("PROTOSEG_BENCH_IMAGES")
    return _stored(Path(folder), count) if folder else _drawn(count)


def localization_maps(sample: Sample, seed: int) -> ScaleMaps:
    """Maps of the classes in the mask as a network might see them: coarse, blurred, noisy."""
    random = np.random.default_rng(seed)
    classes = np.setdiff1d(sample.mask, [0, 255]).astype(np.int64)
    shares = torch.from_numpy(sample.mask == classes[:, None, None]).float()  # [K, H, W]
    coarse = functional.adaptive_avg_pool2d(shares, GRID)
    maps = functional.avg_pool2d(coarse, 5, 1, 2, count_include_pad=False).numpy()
    maps = maps / maps.max(axis=(1, 2), keepdims=True) + 0.1 * random.random(maps.shape)
    return ScaleMaps((maps.astype(np.float32),), classes, sample.mask.shape)


def _drawn(count: int) -> list[Sample]:
    random = np.random.default_rng(0)
    classes = [[1], [2], [3], [1, 2], [2, 3]]
    drawn = [draw_image(classes[n % 5], (HEIGHT, WIDTH), random) for n in range(count)]
    return [Sample(pixels, mask) for pixels, mask, _ in drawn]


def _stored(folder: Path, count: int) -> list[Sample]:
    found: list[Sample] = []
    for path in sorted((folder / "SegmentationClassAug").glob("*.png")):
        mask = np.asarray(Image.open(path))
        if mask.shape == (HEIGHT, WIDTH):
            image = Image.open(folder / "JPEGImages" / f"{path.stem}.jpg").convert("RGB")
            found.append(Sample(np.array(image), np.array(mask)))
        if len(found) == count:
            return found
    raise FileNotFoundError(
        f"{folder} has {len(found)} images of {WIDTH} x {HEIGHT} pixels with masks, not {count}"
    )
