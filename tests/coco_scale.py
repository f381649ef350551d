"""Steps over a data set of COCO's size, on arrays of a few pixels, for `test_scale.py`.

In: an empty folder, which the steps fill one after the other. Out: what each costs in a process of
its own. The numbers of images, lists and classes are COCO 2014's, the files' contents are not: what
grows with the pixels is measured in `benchmarks/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from measure import Cost, cost_of

from protoseg.data.index import DatasetIndex, ImageRecord, read_index, write_index
from protoseg.data.selection import select_ids
from protoseg.evaluation import evaluate_labels
from protoseg.storage import ResultReader, ScaleMaps, merge_results, shard_of, write_results

CLASSES = [f"class{number}" for number in range(1, 81)]
TRAIN = [f"COCO_train2014_{number * 7:012d}" for number in range(80_000)]
VAL = [f"COCO_val2014_{number * 7 + 3:012d}" for number in range(40_000)]
WITH_MAPS = TRAIN[::4]  # an image's maps take as long as three labels; the labels show what grows
EVERY = "train + val"
SHARDS = [f"{number}-of-64" for number in range(1, 65)]
SIZE = (2, 2)


def class_of(image_id: str) -> int:
    """Class 1..80 that an image shows."""
    return int(image_id[-12:]) // 7 % len(CLASSES) + 1


def record(folder: Path, image_id: str) -> ImageRecord:
    label = class_of(image_id)
    image, mask = folder / f"{image_id}.jpg", folder / f"{label}.png"
    return ImageRecord(image_id, image, mask, SIZE, (label,))


def make_index(folder: Path) -> None:
    records = [record(folder, image_id) for image_id in (*TRAIN, *VAL)]
    values = {value: value for value in (*range(81), 255)}
    lists = {"train": TRAIN, "val": VAL}
    write_index(DatasetIndex("coco", folder, CLASSES, values, records, lists), folder)


def select_and_split(folder: Path) -> None:
    index = read_index(folder)
    every = select_ids(index, EVERY)
    assert every == [*TRAIN, *VAL]
    assert select_ids(index, f"{EVERY} - train") == VAL
    assert len(select_ids(index, "val + train[8]")) == len(VAL) + 8
    assert [image_id for shard in SHARDS for image_id in shard_of(every, shard)] == every


def write_shards(folder: Path, kind: str, ids: Sequence[str]) -> None:
    """Each image copies the first one of its class: the time of compression would hide the rest."""
    samples = folder / f"{kind}-samples.h5"
    scales = (np.ones((2, 1, 2), np.float32), np.zeros((2, 2, 1), np.float32))
    with write_results(samples, kind, CLASSES, "f") as writer:
        for label in range(1, len(CLASSES) + 1):
            if kind == "maps":
                writer.write_maps(str(label), ScaleMaps(scales, np.array([0, label]), SIZE))
            else:
                writer.write_label(str(label), np.array([[label, label], [0, 0]], np.uint8))
    with h5py.File(samples) as source:
        for shard in SHARDS:
            with write_results(folder / f"{kind}-{shard}.h5", kind, CLASSES, "f") as writer:
                for image_id in shard_of(ids, shard):
                    name = str(class_of(image_id)).encode()
                    h5py.h5o.copy(source.id, name, writer.file.id, image_id.encode())


def merge(folder: Path, kind: str) -> None:
    parts = [folder / f"{kind}-{shard}.h5" for shard in SHARDS]
    merge_results(parts, folder / f"{kind}.h5", kind)
    for part in parts:  # as Snakemake does, for they are temporary
        part.unlink()


def score_labels(folder: Path) -> None:
    """Reads everything back; of three known pixels one is right, and no mask is decoded."""
    index, reader = read_index(folder), ResultReader([folder / "labels.h5"], "labels")
    masks = {
        folder / f"{label}.png": np.array([[label, 0], [255, label]], np.uint8)
        for label in range(1, len(CLASSES) + 1)
    }
    with patch("protoseg.data.index.load_label_png", masks.__getitem__):
        found = evaluate_labels(index, select_ids(index, EVERY), EVERY, "predictions", reader)
    assert found["images"] == len(TRAIN) + len(VAL)
    assert found["iou"] == [0.0, *[pytest.approx(100 / 3)] * len(CLASSES)]


def read_maps(folder: Path) -> None:
    reader = ResultReader([folder / "maps.h5"], "maps")
    reader.check_ids(WITH_MAPS, "train")
    for image_id in WITH_MAPS:
        maps = reader.maps(image_id)
        assert (maps.classes.tolist(), maps.size) == ([0, class_of(image_id)], SIZE)
        assert [scale.shape for scale in maps.scales] == [(2, 1, 2), (2, 2, 1)]


STEPS: dict[str, Callable[[Path], None]] = {
    "make_index": make_index,
    "select_and_split": select_and_split,
    "write_labels": partial(write_shards, kind="labels", ids=[*TRAIN, *VAL]),
    "merge_labels": partial(merge, kind="labels"),
    "score_labels": score_labels,
    "write_maps": partial(write_shards, kind="maps", ids=WITH_MAPS),
    "merge_maps": partial(merge, kind="maps"),
    "read_maps": read_maps,
}


def costs(folder: Path) -> dict[str, Cost]:
    """Cost of every step, in their order: each reads what those before it wrote."""
    return {name: cost_of(partial(step, folder))[1] for name, step in STEPS.items()}
