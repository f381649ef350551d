"""The index of a data set: which images, masks, image-level labels and lists there are.

In: `images.csv` and `dataset.json`, written once by `index_dataset` after every file was checked.
Out: `DatasetIndex`, the only way in which the other stages find a file or a label.

`images.csv`, one row per image, sorted by id: id, image and mask (relative to the root; mask empty
where there is none), height, width, labels (class ids), lists (for readers). `dataset.json`: name,
root, classes, mask_values (mask pixel value -> class id, 255 ignored), and per list its ids in
the order of the list file. Where the masks were drawn from outlines, also painting (by which rule)
and mask_root (the folder that their paths start from). Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from protoseg.data.checks import DatasetError
from protoseg.data.palette import load_label_png
from protoseg.settings.stage_file import write_atomically

IMAGES = "images.csv"
DATASET = "dataset.json"
COLUMNS = ("id", "image", "mask", "height", "width", "labels", "lists")


@dataclass(frozen=True)
class ImageRecord:
    """One image. size: (H, W); labels: foreground classes 1..K of the image-level label, sorted."""

    id: str
    image: Path
    mask: Path | None
    size: tuple[int, int]
    labels: tuple[int, ...]


class DatasetIndex:
    """Images, labels and lists of one data set.

    Args:
        name: name of the data set.
        root: folder of the data set; paths of records start with it.
        classes: K foreground names, class c is ``classes[c - 1]``.
        mask_values: every pixel value that a mask may hold -> class id 0..K, or 255.
        records: the images.
        lists: list name -> ids in order.
        drawn: for masks that were drawn, not delivered: their folder, and the painting rule.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        classes: Sequence[str],
        mask_values: Mapping[int, int],
        records: Iterable[ImageRecord],
        lists: Mapping[str, Sequence[str]],
        drawn: tuple[Path, str] | None = None,
    ) -> None:
        self.name, self.root, self.classes = name, root, tuple(classes)
        self.mask_values = dict(mask_values)
        self.records = {record.id: record for record in records}
        self.lists = {list_name: list(ids) for list_name, ids in lists.items()}
        self.mask_root, self.painting = drawn or (root, "")
        self._class_of, self._known = np.full(256, 255, np.uint8), np.zeros(256, bool)
        for value, class_id in self.mask_values.items():
            self._class_of[value], self._known[value] = class_id, True

    @property
    def class_names(self) -> list[str]:
        """Background and foreground names, in the order of the class ids."""
        return ["background", *self.classes]

    def ids(self, list_name: str) -> list[str]:
        """Ids in the order of the list file.

        Raises:
            DatasetError: no such list.
        """
        if list_name not in self.lists:
            known = ", ".join(self.lists)
            raise DatasetError(
                [f"{self.name} has no list {list_name!r}, only {known}; mend the setting"]
            )
        return list(self.lists[list_name])

    def __getitem__(self, image_id: str) -> ImageRecord:
        if image_id not in self.records:
            raise DatasetError([f"{self.name} has no image {image_id!r}; rerun index_dataset"])
        return self.records[image_id]

    def read_mask(self, image_id: str) -> NDArray[np.uint8]:
        """Mask [H, W] uint8: 0 background, 1..K, 255 ignored or a class outside the subset.

        Raises:
            DatasetError: no mask, or a mask that changed since it was indexed.
        """
        record = self[image_id]
        if record.mask is None:
            raise DatasetError([f"{image_id} of {self.name} has no mask: it cannot be scored"])
        try:
            values = load_label_png(record.mask)
        except (OSError, ValueError) as error:
            raise DatasetError([f"{record.mask}: {error}; rerun index_dataset"]) from error
        if values.shape != record.size:
            raise DatasetError([f"{record.mask} is not as indexed; rerun index_dataset"])
        if not self._known[values].all():
            raise DatasetError([f"{record.mask} holds unknown values; rerun index_dataset"])
        return self._class_of[values]

    def with_masks(self, masks: Mapping[str, Path], folder: Path, painting: str) -> DatasetIndex:
        """This index with the masks (id -> file) that were drawn under ``folder``."""
        records = [replace(record, mask=masks.get(id_)) for id_, record in self.records.items()]
        about = (self.name, self.root, self.classes, self.mask_values)
        return DatasetIndex(*about, records, self.lists, (folder, painting))

    def label_vector(self, image_id: str) -> NDArray[np.float32]:
        """Image-level label [K] float32: 1 where class c = position + 1 is present, else 0."""
        vector = np.zeros(len(self.classes), np.float32)
        vector[[label - 1 for label in self[image_id].labels]] = 1
        return vector


def read_index(folder: Path) -> DatasetIndex:
    """The index that `index_dataset` wrote into ``folder``.

    Raises:
        DatasetError: files absent or of another form.
    """
    try:
        about: dict[str, Any] = json.loads((folder / DATASET).read_text(encoding="utf-8"))
        types: dict[str, Any] = dict.fromkeys(COLUMNS, str) | {"height": int, "width": int}
        rows = pd.read_csv(folder / IMAGES, dtype=types, keep_default_na=False)
        root = Path(about["root"])
        drawn = (Path(about["mask_root"]), about["painting"]) if "painting" in about else None
        mask_root = drawn[0] if drawn else root
        records = [
            ImageRecord(
                id=image_id,
                image=root / image,
                mask=mask_root / mask if mask else None,
                size=(height, width),
                labels=tuple(int(label) for label in labels.split()),
            )
            for image_id, image, mask, height, width, labels in zip(
                *(rows[column].tolist() for column in COLUMNS[:6]), strict=True
            )
        ]
        mask_values = {int(value): class_id for value, class_id in about["mask_values"].items()}
        return DatasetIndex(
            about["name"], root, about["classes"], mask_values, records, about["lists"], drawn
        )
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError([f"no usable index in {folder} ({error}); run index_dataset"]) from error


def write_index(index: DatasetIndex, folder: Path) -> None:
    """Write ``images.csv`` and ``dataset.json``; equal indexes give equal bytes."""
    memberships: dict[str, list[str]] = {image_id: [] for image_id in index.records}
    for list_name, ids in index.lists.items():
        for image_id in ids:
            memberships[image_id].append(list_name)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image_id, record in sorted(index.records.items()):
        mask = record.mask.relative_to(index.mask_root).as_posix() if record.mask else ""
        image = record.image.relative_to(index.root).as_posix()
        labels = " ".join(str(label) for label in record.labels)
        lists = " ".join(memberships[image_id])
        writer.writerow([image_id, image, mask, *record.size, labels, lists])
    about = {
        "name": index.name,
        "root": index.root.as_posix(),
        "classes": index.classes,
        "mask_values": {
            str(value): index.mask_values[value] for value in sorted(index.mask_values)
        },
        "lists": index.lists,
    }
    if index.painting:
        about |= {"mask_root": index.mask_root.as_posix(), "painting": index.painting}
    write_atomically(folder / IMAGES, text.getvalue().encode())
    write_atomically(
        folder / DATASET, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()
    )
