"""COCO 2014 in its official layout: from the instances JSON files to an index with drawn masks.

In: `annotations/instances_{train,val}2014.json`, and the images in `train2014/` and `val2014/`.
Out: `DatasetIndex` with the lists `train` and `val`, or one error with all problems. Ids are the
images' file names without ending; classes are the categories in the order of their ids.
Image-level labels are the categories of all annotations, crowds included, whatever the painting
rule: a crowd of persons shows persons. 82,081 and 40,137 of COCO 2014's images should have labels
then, as published; another count in a whole split is warned of.

Masks are drawn once, as PNG files beside the index that hold the categories' places 1 to 80. Their
folder's name has the painting rule and a digest of the JSON and the painting code. Masks that lie
there whole are kept: a stopped run goes on where it was, another choice of classes draws nothing.
Source: COCO's data format (cocodataset.org); `coco_masks` for the painting rules.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from protoseg.data import coco_masks
from protoseg.data.checks import DatasetError, ImageFiles, check_files, check_mask
from protoseg.data.coco_masks import PaintingRule, contiguous_category_ids, paint_label_map
from protoseg.data.index import DatasetIndex
from protoseg.data.palette import save_label_png
from protoseg.data.selection import select
from protoseg.data.voc import Annotated, annotated_lists, checked_index
from protoseg.processes import map_in_processes
from protoseg.settings.provenance import module_digest
from protoseg.settings.schema import DatasetSettings

LOG = logging.getLogger(__name__)
LISTS = {"train": (82_783, 82_081), "val": (40_504, 40_137)}  # images of COCO 2014, with labels
CHUNK = 32  # images that a process draws before it asks for more


@dataclass(frozen=True)
class CocoImage:
    """One image. size: (H, W) by the JSON; annotations: COCO's entries in the file's order."""

    path: Path
    size: tuple[int, int]
    annotations: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Split:
    """One instances JSON.

    Attributes:
        name: `train` or `val`.
        images: id (file name without ending) -> image, sorted.
        categories: COCO's category id -> name.
        digest: of the JSON's content.
    """

    name: str
    images: dict[str, CocoImage]
    categories: dict[int, str]
    digest: str


def read_split(root: Path, name: str) -> Split:
    """Read one instances JSON.

    Raises:
        DatasetError: no such list, file or folder of images, or a JSON of another form.
    """
    if name not in LISTS:
        raise DatasetError([f"COCO has no list {name!r}, only {', '.join(LISTS)}; mend the lists"])
    path, folder = root / "annotations" / f"instances_{name}2014.json", root / f"{name}2014"
    if not folder.is_dir():
        raise DatasetError([f"{folder}: no such folder; add the images or mend dataset.root"])
    try:
        content = path.read_bytes()
        about = json.loads(content)
        annotations: dict[int, list[dict[str, Any]]] = {e["id"]: [] for e in about["images"]}
        for entry in about["annotations"]:
            annotations[entry["image_id"]].append(entry)
        images = {}
        for entry in sorted(about["images"], key=lambda entry: entry["file_name"]):
            image, size = folder / entry["file_name"], (entry["height"], entry["width"])
            images[image.stem] = CocoImage(image, size, tuple(annotations[entry["id"]]))
        categories = {entry["id"]: entry["name"] for entry in about["categories"]}
    except OSError as error:
        raise DatasetError([f"{path}: cannot be read; add it or mend dataset.root"]) from error
    except (KeyError, TypeError, ValueError) as error:
        line = f"{path}: not a sound instances JSON of COCO ({error!r}); replace it"
        raise DatasetError([line]) from error
    if len(images) < len(about["images"]):
        raise DatasetError([f"{path}: lists an image more than once; replace it"])
    return Split(name, images, categories, hashlib.sha256(content).hexdigest())


def read_splits(root: Path, names: Sequence[str]) -> tuple[list[Split], list[str]]:
    """Splits that can be read, and the problems of their files."""
    splits: list[Split] = []
    problems: list[str] = []
    for name in names:
        try:
            splits.append(read_split(root, name))
        except DatasetError as error:
            problems += error.problems
    for split in splits:
        count_labelled(split)
        where, first = f"instances_{split.name}2014.json", splits[0]
        entries = (entry for image in split.images.values() for entry in image.annotations)
        for category, count in Counter(entry["category_id"] for entry in entries).items():
            if category not in split.categories:
                line = f"{where}: category {category} of {count} annotations is unknown"
                problems.append(f"{line}; add it to the JSON's categories")
        if split.categories != first.categories:
            problems.append(f"{where}: other categories than {first.name}; replace either one")
        if split is not first and (both := split.images.keys() & first.images.keys()):
            problems.append(f"{where}: {min(both)} is in {first.name} as well; rename either")
    return splits, problems


def count_labelled(split: Split) -> None:
    """Log how many images have labels; warn where a whole split of COCO 2014 has another number."""
    labelled = sum(bool(image.annotations) for image in split.images.values())
    LOG.info("%s: %d images, %d with labels", split.name, len(split.images), labelled)
    images, expected = LISTS[split.name]
    if len(split.images) == images and labelled != expected:
        LOG.warning("%s: COCO 2014 has %d images with labels there", split.name, expected)


def image_labels(split: Split, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Sorted class ids per image id, () where none of the categories is one of ``classes``."""
    places = {name: position for position, name in enumerate(classes, 1)}
    class_ids = {category: places.get(name, 0) for category, name in split.categories.items()}
    labels = {}
    for image_id, image in split.images.items():
        found = {class_ids.get(entry["category_id"], 0) for entry in image.annotations}
        labels[image_id] = tuple(sorted(found - {0}))
    return labels


def check_images(
    files: Sequence[ImageFiles], _scored: object, images: Mapping[str, CocoImage], workers: int
) -> tuple[list[tuple[int, int]], list[str]]:
    """Sizes (H, W) by the JSON, and problems: absent, not whole, or of another size than that."""
    sizes = [images[entry.id].size for entry in files]
    problems: list[str] = []
    for entry, size, report in zip(files, sizes, check_files(files, (), workers), strict=True):
        problems += report.problems
        if report.size and report.size != size:
            real, written = (f"{width}x{height}" for height, width in (report.size, size))
            problems.append(f"{entry.image}: image is {real}, the JSON says {written}; mend either")
    return sizes, problems


def draw_mask(
    work: tuple[Path, CocoImage], labels: Mapping[int, int], rule: PaintingRule
) -> list[str]:
    """Draw one mask, unless it lies there whole; its problem, if it has one.

    Args:
        work: the PNG file to write, and the image.
        labels, rule: see `paint_label_map`.
    """
    path, image = work
    if not check_mask(path, image.size, {0, *labels.values()}):
        return []
    try:
        label_map = paint_label_map(image.annotations, *image.size, labels, rule)
    except Exception as error:  # pycocotools raises bare exceptions on what it cannot read
        return [f"{path.stem}: its annotations cannot be painted ({error!r}); mend the JSON"]
    temporary = path.with_suffix(".tmp")
    save_label_png(temporary, label_map)
    os.replace(temporary, path)
    return []


def draw_masks(
    split: Split, ids: Sequence[str], masks: Path, rule: PaintingRule, workers: int
) -> dict[str, Path]:
    """Masks of ``ids`` under ``masks``, drawn in ``workers`` processes (0 or 1: this one).

    Raises:
        DatasetError: every image whose annotations cannot be painted.
    """
    start = time.perf_counter()
    painter, _ = module_digest(Path(coco_masks.__file__))
    digest = hashlib.sha256(f"{split.digest} {painter}".encode()).hexdigest()[:8]
    folder = masks / f"{split.name}-{rule}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {image_id: folder / f"{image_id}.png" for image_id in ids}
    work = [(path, split.images[image_id]) for image_id, path in paths.items()]
    draw = partial(draw_mask, labels=contiguous_category_ids(split.categories), rule=rule)
    drawn = map_in_processes(draw, work, workers, CHUNK)
    found = list(tqdm(drawn, total=len(work), desc=f"masks of {split.name}", disable=None))
    if problems := [problem for problems in found for problem in problems]:
        raise DatasetError(problems)
    seconds = time.perf_counter() - start
    LOG.info("%s: %d masks drawn or kept in %.1f s", folder, len(paths), seconds)
    return paths


def index_coco(settings: DatasetSettings, masks: Path, workers: int) -> DatasetIndex:
    """Index of COCO 2014, after a check of its images, with masks drawn under ``masks``.

    No ``settings.classes`` mean all categories. Images that no list expression of the settings
    takes get no mask. ``workers``: threads that decode (0 lets Python choose), processes that draw.

    Raises:
        DatasetError: every problem of the files at once; then those of the painting.
    """
    named = annotated_lists(settings)
    splits, problems = read_splits(Path(settings.root), named)
    names = [name for split in splits[:1] for _, name in sorted(split.categories.items())]
    classes = settings.classes or tuple(names)
    unknown = [name for name in classes if splits and name not in names]
    problems += [f"setting dataset.classes: {name!r} is no category; mend it" for name in unknown]
    images = {k: image for split in splits for k, image in split.images.items()}
    labels = {k: found for split in splits for k, found in image_labels(split, classes).items()}
    lists: dict[str, list[str]] = {name: [] for name in named}
    lists |= {split.name: list(split.images) for split in splits}
    index = checked_index(
        settings,
        Annotated(classes, names, lists, labels, problems),
        lambda image_id: ImageFiles(image_id, images[image_id].path, None),
        partial(check_images, images=images, workers=workers),
    )
    chosen = (settings.train_list, settings.labels_list, settings.maps_list, settings.val_list)
    taken = {image_id for expression in chosen for image_id in select(index.lists, expression)}
    rule, paths = cast(PaintingRule, settings.coco_painting), dict[str, Path]()
    for split in splits:
        ids = [image_id for image_id in index.lists[split.name] if image_id in taken]
        paths |= draw_masks(split, ids, masks, rule, workers)
    return index.with_masks(paths, masks, rule)
