"""A data set of a few random images with blocks as masks, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.data.palette import save_label_png
from protoseg.storage import ResultReader, ScaleMaps, write_results

CLASSES = ("cat", "dog", "cow")
SIZES = ((24, 32), (33, 21), (40, 40))


def small_index(
    folder: Path, count: int = 6, sizes: Sequence[tuple[int, int]] = SIZES
) -> DatasetIndex:
    """Index of ``count`` images; image i shows classes i % 3 + 1 and, every second one, class 1."""
    random = np.random.default_rng(0)
    records = []
    for number in range(count):
        image_id, size = f"image{number}", sizes[number % len(sizes)]
        labels = sorted({number % 3 + 1, *([1] if number % 2 else [])})
        pixels = random.integers(0, 256, (size[0] // 4 + 1, size[1] // 4 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.NEAREST)
        picture.save(folder / f"{image_id}.png")
        mask = np.zeros(size, np.uint8)
        for place, label in enumerate(labels):
            mask[4 + 8 * place : 10 + 8 * place, 3:12] = label
        mask[:, -1] = 255
        save_label_png(folder / f"{image_id}_mask.png", mask)
        records.append(
            ImageRecord(
                image_id,
                folder / f"{image_id}.png",
                folder / f"{image_id}_mask.png",
                size,
                tuple(labels),
            )
        )
    ids = [record.id for record in records]
    values = {value: value for value in (0, 1, 2, 3, 255)}
    return DatasetIndex("small", folder, CLASSES, values, records, {"train": ids, "val": ids[:2]})


def stored_maps(index: DatasetIndex, folder: Path, background: bool) -> ResultReader:
    """Random maps of the present classes of all images, with or without a background map."""
    random = np.random.default_rng(0)
    with write_results(folder / "maps.h5", "maps", index.class_names, "f") as writer:
        for image_id in index.ids("train"):
            classes = [0] * background + list(index[image_id].labels)
            scale = random.random((len(classes), 3, 4), dtype=np.float32)
            maps = ScaleMaps((scale,), np.array(classes), index[image_id].size)
            writer.write_maps(image_id, maps)
    return ResultReader([folder / "maps.h5"], "maps")
