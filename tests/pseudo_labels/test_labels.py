"""Pseudo labels: argmax against the background, the two passes and how they combine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from protoseg.pseudo_labels.crf import CRFParameters, ImageCRF, hard_label_unary
from protoseg.pseudo_labels.labels import (
    argmax_with_background,
    combine_ir_labels,
    has_background_map,
    pseudo_labels,
)

PARAMETERS = CRFParameters(3, 3, 20, 5, 10, iterations=3)
HEIGHT, WIDTH = 20, 26


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def maps() -> NDArray[np.float32]:
    return np.random.default_rng(1).random((3, HEIGHT, WIDTH), np.float32)


def test_constant_background_wins_at_equality() -> None:
    maps = np.array([[[0.3, 0.31, 0.2, 0.9]], [[0.1, 0.31, 0.4, 0.95]]], np.float32)
    found = argmax_with_background(maps, np.array([4, 7]), 0.3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [[0, 1, 2, 2]])


def test_background_map_times_its_factor() -> None:
    maps = np.array([[[0.8, 0.8, 0.4]], [[0.5, 0.3, 0.2]]], np.float32)
    classes = np.array([0, 9])
    before = maps.copy()
    np.testing.assert_array_equal(argmax_with_background(maps, classes, 1.0), [[0, 0, 0]])
    np.testing.assert_array_equal(argmax_with_background(maps, classes, 0.5), [[1, 0, 0]])
    np.testing.assert_array_equal(maps, before)


def test_image_without_classes() -> None:
    nothing = np.zeros((0, 2, 3), np.float32)
    found = argmax_with_background(nothing, np.array([], np.int64), 0.3)
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


@pytest.mark.parametrize("classes", [[3, 0], [3, 3], [0, 0], [0, 255], [-1, 2]])
def test_class_ids_are_checked(classes: list[int]) -> None:
    with pytest.raises(ValueError, match="class ids"):
        has_background_map(np.array(classes))


def test_number_of_maps_is_checked(maps: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="for 2 class ids"):
        argmax_with_background(maps, np.array([1, 2]), 0.3)


def test_combination_by_hand() -> None:
    foreground_pass = np.array([5, 5, 0, 0], np.uint8)
    background_pass = np.array([5, 0, 0, 7], np.uint8)
    found = combine_ir_labels(foreground_pass, background_pass)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [5, 5, 0, 255])


@pytest.mark.parametrize("classes", [[3, 8, 14], [0, 8, 14]])
def test_passes_equal_separate_crfs(
    image: NDArray[np.uint8], maps: NDArray[np.float32], classes: list[int]
) -> None:
    ids = np.array(classes)
    class_ids = ids if ids[0] == 0 else np.array([0, *classes])
    separate = []
    for score in (0.6, 0.4):
        local = argmax_with_background(maps, ids, score)
        unary = hard_label_unary(local, len(class_ids), 0.7)
        separate.append(class_ids[ImageCRF(image, len(class_ids), PARAMETERS).labels(unary)])
    scored, ir_label = pseudo_labels(
        image, maps, ids, background=0.6, ir_background=0.4, confidence=0.7, parameters=PARAMETERS
    )
    assert scored.dtype == ir_label.dtype == np.uint8
    np.testing.assert_array_equal(scored, separate[0])
    undecided = np.where(separate[1] == 0, 0, 255)
    np.testing.assert_array_equal(ir_label, np.where(separate[0] > 0, separate[0], undecided))


def test_background_pass_may_be_the_scored_one(
    image: NDArray[np.uint8], maps: NDArray[np.float32]
) -> None:
    classes = np.array([0, 8, 14])

    def labels(background: float, ir_background: float, scored_pass: str) -> list[NDArray]:
        return list(
            pseudo_labels(
                image,
                maps,
                classes,
                background=background,
                ir_background=ir_background,
                scored_pass=scored_pass,
                confidence=0.7,
                parameters=PARAMETERS,
            )
        )

    scored, ir_label = labels(1.0, 0.6, "background")
    np.testing.assert_array_equal(scored, labels(0.6, 0.6, "foreground")[0])
    foreground_scored, same_ir_label = labels(1.0, 0.6, "foreground")
    np.testing.assert_array_equal(ir_label, same_ir_label)
    assert (scored != foreground_scored).any()
    with pytest.raises(ValueError, match="unknown pass 'both'; known: foreground, background"):
        labels(1.0, 0.6, "both")


def test_zero_iterations_skip_the_crf(image: NDArray[np.uint8], maps: NDArray[np.float32]) -> None:
    classes = np.array([2, 6, 11])
    scored, _ = pseudo_labels(
        image,
        maps,
        classes,
        background=0.6,
        ir_background=0.4,
        confidence=0.7,
        parameters=replace(PARAMETERS, iterations=0),
    )
    local = argmax_with_background(maps, classes, 0.6)
    np.testing.assert_array_equal(scored, np.array([0, 2, 6, 11])[local])


@pytest.mark.parametrize("classes", [[], [0]])
def test_image_without_foreground_is_background(
    image: NDArray[np.uint8], maps: NDArray[np.float32], classes: list[int]
) -> None:
    scored, ir_label = pseudo_labels(
        image,
        maps[: len(classes)],
        np.array(classes, np.int64),
        background=0.6,
        ir_background=0.4,
        confidence=0.7,
        parameters=PARAMETERS,
    )
    assert not scored.any()
    assert not ir_label.any()


def test_sizes_are_checked(image: NDArray[np.uint8], maps: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="resize the maps"):
        pseudo_labels(
            image,
            maps[:, ::2, ::2],
            np.array([1, 2, 3]),
            background=0.6,
            ir_background=0.4,
            confidence=0.7,
            parameters=PARAMETERS,
        )
