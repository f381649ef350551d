"""COCO instances: the painting rules on rectangles whose result is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protoseg.data.coco_masks import (
    PAINTING_RULES,
    contiguous_category_ids,
    instance_mask,
    paint_label_map,
    ring_around,
    visible_annotation,
)

HEIGHT, WIDTH = 20, 24
LABELS = {18: 1, 44: 2, 90: 3}


def rectangle(
    category: int, top: int, left: int, bottom: int, right: int, crowd: int = 0
) -> dict[str, Any]:
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {
        "id": 100 * category + top,
        "category_id": category,
        "segmentation": [[float(value) for value in corners]],
        "area": float((bottom - top) * (right - left)),
        "iscrowd": crowd,
    }


def filled(top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


SMALL, LARGE = rectangle(18, 4, 4, 10, 10), rectangle(44, 2, 6, 16, 20)
SMALL_MASK, LARGE_MASK = filled(4, 4, 10, 10), filled(2, 6, 16, 20)


def test_contiguous_ids() -> None:
    assert contiguous_category_ids([90, 1, 13, 11]) == {1: 1, 11: 2, 13: 3, 90: 4}


def test_the_three_encodings_agree() -> None:
    expected = filled(1, 2, 4, 5)
    polygon = rectangle(18, 1, 2, 4, 5)["segmentation"]
    runs = np.diff(np.flatnonzero(np.diff(expected.T.ravel(), prepend=False)), prepend=0)
    counts = [*runs.tolist(), int(expected.size - runs.sum())]
    size = [HEIGHT, WIDTH]
    for segmentation in (polygon, {"size": size, "counts": counts}):
        found = instance_mask({"segmentation": segmentation}, HEIGHT, WIDTH)
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, expected)


def test_parts_are_united() -> None:
    parts = rectangle(18, 1, 2, 4, 5)["segmentation"] + rectangle(18, 3, 3, 9, 8)["segmentation"]
    found = instance_mask({"segmentation": parts}, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, filled(1, 2, 4, 5) | filled(3, 3, 9, 8))


def test_disagreeing_sizes_are_refused() -> None:
    annotation = {"id": 5, "segmentation": {"size": [2, 3], "counts": [6]}}
    with pytest.raises(ValueError, match="annotation 5"):
        instance_mask(annotation, HEIGHT, WIDTH)


@pytest.mark.parametrize("annotations", [[SMALL, LARGE], [LARGE, SMALL]])
def test_annotation_order(annotations: list[dict[str, Any]]) -> None:
    found = paint_label_map(annotations, HEIGHT, WIDTH, LABELS, "annotation_order")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for annotation in annotations:
        mask = SMALL_MASK if annotation is SMALL else LARGE_MASK
        expected[mask] = LABELS[annotation["category_id"]]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("annotations", [[SMALL, LARGE], [LARGE, SMALL]])
def test_smaller_on_top(annotations: list[dict[str, Any]]) -> None:
    found = paint_label_map(annotations, HEIGHT, WIDTH, LABELS, "smaller_on_top")
    expected = np.where(SMALL_MASK, 1, np.where(LARGE_MASK, 2, 0))
    np.testing.assert_array_equal(found, expected)


def test_equal_areas_keep_the_earlier() -> None:
    first, second = rectangle(18, 2, 2, 8, 8), rectangle(44, 5, 5, 11, 11)
    visible = visible_annotation([first, second], HEIGHT, WIDTH, "smaller_on_top")
    assert visible[6, 6] == 0
    assert visible[10, 10] == 1
    assert visible[0, 0] == -1


def test_crowds_count_for_one_rule_only() -> None:
    crowd = [rectangle(90, 2, 2, 8, 8, crowd=1)]
    assert not paint_label_map(crowd, HEIGHT, WIDTH, LABELS, "annotation_order").any()
    found = paint_label_map(crowd, HEIGHT, WIDTH, LABELS, "smaller_on_top")
    np.testing.assert_array_equal(found, 3 * filled(2, 2, 8, 8))


def test_ring_equals_a_distance_in_squares() -> None:
    mask = np.random.default_rng(0).random((15, 18)) > 0.97
    mask[0, 0] = True
    rows, columns = np.indices(mask.shape)
    near = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        near |= np.maximum(abs(rows - row), abs(columns - column)) <= 3
    np.testing.assert_array_equal(ring_around(mask), near & ~mask)


def test_border_is_drawn_in_turn() -> None:
    found = paint_label_map([SMALL, LARGE], HEIGHT, WIDTH, LABELS, "smaller_on_top", border=True)
    expected = np.where(SMALL_MASK, 1, 0)
    expected[ring_around(SMALL_MASK)] = 255
    expected[LARGE_MASK & (expected == 0)] = 2
    expected[ring_around(LARGE_MASK)] = 255
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rule", PAINTING_RULES)
def test_no_annotation_is_background(rule: Any) -> None:
    found = paint_label_map([], HEIGHT, WIDTH, LABELS, rule)
    np.testing.assert_array_equal(found, np.zeros((HEIGHT, WIDTH)))


def test_classes_that_take_no_part_become_void() -> None:
    labels = {**LABELS, 18: 255}
    found = paint_label_map([SMALL], HEIGHT, WIDTH, labels, "annotation_order")
    np.testing.assert_array_equal(found, 255 * SMALL_MASK.astype(int))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="annotation_order, smaller_on_top"):
        visible_annotation([SMALL], HEIGHT, WIDTH, "larger_on_top")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[44\] have no label"):
        paint_label_map([SMALL, LARGE], HEIGHT, WIDTH, {18: 1}, "annotation_order")
