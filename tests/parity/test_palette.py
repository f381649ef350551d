"""VOC colours and COCO mask painting against the published ones (golden/palette)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden_files
from numpy.typing import NDArray

from protoseg.data.coco_masks import (
    contiguous_category_ids,
    paint_label_map,
    visible_annotation,
)
from protoseg.data.palette import voc_palette

PALETTES = golden_files("palette", "voc_palette*.npz")
ANNOTATIONS = golden_files("palette", "coco_*.json")
MASKS = "coco_masks"
# The shortcut of one code base spreads the five lowest bits only.
LABELS_OF_FIVE_BITS = 32


@pytest.mark.parametrize("file", PALETTES)
def test_palette(file: Path) -> None:
    with np.load(file) as golden:
        np.testing.assert_array_equal(voc_palette(), golden["palette"])
        shortcut = golden["rgb_white255_5bit"]
    np.testing.assert_array_equal(
        voc_palette()[:LABELS_OF_FIVE_BITS], shortcut[:LABELS_OF_FIVE_BITS]
    )


def read_coco(file: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """The JSON and the masks beside it: coco_synthetic<x>.json goes with coco_masks<x>.npz."""
    masks = file.with_name(file.stem.replace("coco_synthetic", MASKS) + ".npz")
    with np.load(masks) as archive:
        return json.loads(file.read_text(encoding="utf-8")), dict(archive)


def of_image(coco: dict[str, Any], image_id: int) -> tuple[list[dict[str, Any]], int, int]:
    entry = next(image for image in coco["images"] if image["id"] == image_id)
    annotations = [a for a in coco["annotations"] if a["image_id"] == image_id]
    return annotations, entry["height"], entry["width"]


@pytest.mark.parametrize("file", ANNOTATIONS)
def test_contiguous_ids(file: Path) -> None:
    coco, golden = read_coco(file)
    found = contiguous_category_ids(category["id"] for category in coco["categories"])
    assert list(found.items()) == [tuple(p) for p in golden["category_id_to_contiguous"].tolist()]


@pytest.mark.parametrize("file", ANNOTATIONS)
def test_annotation_order(file: Path) -> None:
    coco, golden = read_coco(file)
    labels = contiguous_category_ids(category["id"] for category in coco["categories"])
    for image_id in golden["image_ids"].tolist():
        annotations, height, width = of_image(coco, image_id)
        found = paint_label_map(annotations, height, width, labels, "annotation_order")
        np.testing.assert_array_equal(found, golden[f"annotation_order_{image_id}"])


@pytest.mark.parametrize("file", ANNOTATIONS)
@pytest.mark.parametrize(("name", "border"), [("rawid", False), ("border_rawid", True)])
def test_smaller_on_top(file: Path, name: str, border: bool) -> None:
    coco, golden = read_coco(file)
    raw_ids = {category["id"]: category["id"] for category in coco["categories"]}
    for image_id in golden["image_ids"].tolist():
        annotations, height, width = of_image(coco, image_id)
        found = paint_label_map(annotations, height, width, raw_ids, "smaller_on_top", border)
        # The original skips images without annotations; here they are all background.
        expected = golden.get(f"smaller_on_top_{name}_{image_id}", np.zeros_like(found))
        assert annotations or f"smaller_on_top_{name}_{image_id}" not in golden
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("file", ANNOTATIONS)
def test_smaller_on_top_annotation_ids(file: Path) -> None:
    coco, golden = read_coco(file)
    for image_id in golden["image_ids"].tolist():
        annotations, height, width = of_image(coco, image_id)
        if not annotations:
            continue
        visible = visible_annotation(annotations, height, width, "smaller_on_top")
        ids = np.array([annotation["id"] for annotation in annotations] + [0])
        expected = golden[f"smaller_on_top_annotation_id_{image_id}"]
        np.testing.assert_array_equal(ids[visible], expected)
