"""The generated demo data set as a folder in the VOC 2012 layout.

In: numbers of images, size, seed. Out: JPEGImages, Annotations, SegmentationClassAug and
ImageSets/Segmentation with `train_aug` (all training images), `train` (a share of them, for
scoring maps) and `val`. Every mask is there; training reads none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from protoseg.data.checks import DatasetError
from protoseg.data.demo import EMBLEM_COLOURS, MAPS_SHARE, SECOND_OBJECT, draw_image, image_shape
from protoseg.data.palette import save_label_png
from protoseg.data.voc import AUGMENTED_MASKS, DEMO_CLASSES

LOG = logging.getLogger(__name__)
PREFIX = "demo_"


def clear(root: Path) -> None:
    """Remove an earlier demo set.

    Raises:
        DatasetError: the folder holds images of something else.
    """
    for folder in ("JPEGImages", "Annotations", AUGMENTED_MASKS):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for path in (root / folder).iterdir():
            if not path.name.startswith(PREFIX):
                raise DatasetError([f"{root} holds other files ({path.name}); mend dataset.root"])
            path.unlink()


def write_image(root: Path, image_id: str, number: int, size: int, seed: int) -> None:
    """Draw image ``number`` of the set and write its three files; classes take turns."""
    random = np.random.default_rng((seed, number))
    class_ids = [number % len(DEMO_CLASSES) + 1]
    if random.random() < SECOND_OBJECT:
        class_ids.append(int(random.integers(len(DEMO_CLASSES))) + 1)
    pixels, mask, drawn = draw_image(class_ids, image_shape(size, random), random)
    Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    save_label_png(root / AUGMENTED_MASKS / f"{image_id}.png", mask)
    names = "".join(f"<object><name>{DEMO_CLASSES[c - 1]}</name></object>" for c in drawn)
    text = f"<annotation><filename>{image_id}.jpg</filename>{names}</annotation>\n"
    (root / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")


def write_lists(root: Path, train: Sequence[str], val: Sequence[str]) -> None:
    """The three lists; `train` and `val` hold images of a class with an emblem only."""
    rounds = len(DEMO_CLASSES)
    marked = [number for number in range(len(train)) if number % rounds < len(EMBLEM_COLOURS)]
    scored = [train[number] for number in marked if number // rounds % MAPS_SHARE == 0]
    first = len(train)
    val = [name for place, name in enumerate(val) if (first + place) % rounds < len(EMBLEM_COLOURS)]
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in {"train_aug": train, "train": scored, "val": val}.items():
        text = "".join(f"{image_id}\n" for image_id in ids)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def draw_demo_set(root: Path, train_images: int, val_images: int, size: int, seed: int) -> None:
    """Write the data set; equal arguments give equal files.

    Args:
        root: folder to write; an earlier demo set in it is replaced.
        size: longest side of an image, pixels.

    Raises:
        DatasetError: the folder holds something else.
    """
    clear(root)
    ids = [f"{PREFIX}{number:05d}" for number in range(train_images + val_images)]
    for number, image_id in enumerate(ids):
        write_image(root, image_id, number, size, seed)
    write_lists(root, ids[:train_images], ids[train_images:])
    LOG.info("drew %d images at %s", len(ids), root)
