"""Scores against numbers by hand, and the one-pass sweep against an argmax per threshold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protoseg.metrics import (
    Confusion,
    ThresholdSweep,
    compute_scores,
    intersection_over_union,
    mean_iou,
)

# Rows ground truth: class 2 is only predicted, class 3 occurs nowhere.
MATRIX = np.array([[6, 1, 1, 0], [2, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def slow_confusion(truth: NDArray, prediction: NDArray, n_classes: int) -> NDArray[np.int64]:
    matrix = np.zeros((n_classes, n_classes), np.int64)
    for row, column in zip(truth.ravel(), prediction.ravel(), strict=True):
        if row != 255:
            matrix[row, 0 if column == 255 else column] += 1
    return matrix


def slow_sweep(
    truth: NDArray, maps: NDArray, classes: NDArray, thresholds: list[float], n_classes: int
) -> NDArray[np.int64]:
    ids = np.array([0, *classes])
    matrices = []
    for threshold in thresholds:
        background = np.full((1, *truth.shape), threshold, np.float32)
        prediction = ids[np.concatenate([background, maps]).argmax(axis=0)]
        matrices.append(slow_confusion(truth, prediction, n_classes))
    return np.stack(matrices)


def random_truth(generator: np.random.Generator, n_classes: int) -> NDArray[np.uint8]:
    labels = [*range(n_classes), 255]
    return generator.choice(labels, (9, 7)).astype(np.uint8)


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 90))
@settings(max_examples=30, deadline=None)
def test_confusion_equals_the_slow_one(seed: int, n_classes: int) -> None:
    generator = np.random.default_rng(seed)
    truth, prediction = random_truth(generator, n_classes), random_truth(generator, n_classes)
    confusion = Confusion(n_classes)
    confusion.update(truth, prediction)
    assert confusion.matrix.dtype == np.int64
    np.testing.assert_array_equal(confusion.matrix, slow_confusion(truth, prediction, n_classes))


def test_void_predictions() -> None:
    truth = np.array([1, 1, 255], np.uint8)
    prediction = np.array([1, 255, 255], np.uint8)
    background, ignored = Confusion(2), Confusion(2, "ignored")
    background.update(truth, prediction)
    ignored.update(truth, prediction)
    np.testing.assert_array_equal(background.matrix, [[0, 0], [1, 1]])
    np.testing.assert_array_equal(ignored.matrix, [[0, 0], [0, 1]])


def test_parts_add_up() -> None:
    generator = np.random.default_rng(0)
    images = [(random_truth(generator, 5), random_truth(generator, 5)) for _ in range(4)]
    whole, part, rest = Confusion(5), Confusion(5), Confusion(5)
    for index, image in enumerate(images):
        whole.update(*image)
        (part if index % 2 else rest).update(*image)
    part.add(rest)
    np.testing.assert_array_equal(part.matrix, whole.matrix)
    assert part.compute().mean_iou == whole.compute().mean_iou
    with pytest.raises(ValueError, match="different"):
        part.add(Confusion(6))
    with pytest.raises(ValueError, match="different"):
        part.add(Confusion(5, "ignored"))


def test_scores_by_hand() -> None:
    scores = compute_scores(MATRIX)
    np.testing.assert_allclose(scores.iou, [6 / 10, 4 / 7, 0, np.nan])
    assert scores.mean_iou == pytest.approx((6 / 10 + 4 / 7) / 3)
    assert scores.classes_counted == 3
    assert scores.pixel_accuracy == pytest.approx(10 / 14)
    assert scores.mean_class_accuracy == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert scores.frequency_weighted_iou == pytest.approx(8 / 14 * 6 / 10 + 6 / 14 * 4 / 7)
    np.testing.assert_allclose(scores.over_rate, [2 / 10, 1 / 7, 1, np.nan])
    np.testing.assert_allclose(scores.under_rate, [2 / 10, 2 / 7, 0, np.nan])


def test_averages_by_hand() -> None:
    total = 6 / 10 + 4 / 7
    for average, n_counted in {"occurring": 3, "in_ground_truth": 2, "all": 4}.items():
        mean, found = mean_iou(MATRIX, average)  # type: ignore[arg-type]
        assert mean == pytest.approx(total / n_counted)
        assert found == n_counted
    assert intersection_over_union(MATRIX, "all")[3] == 0.0


def test_nothing_counted_is_nan_without_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = compute_scores(np.zeros((3, 3), np.int64))
    assert np.isnan(scores.mean_iou)
    assert np.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.frequency_weighted_iou)
    assert scores.classes_counted == 0


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "one size"),
        (np.zeros(2, np.int64), np.zeros(2, np.uint8), "uint8"),
        (np.array([3], np.uint8), np.array([0], np.uint8), "ground truth holds label 3"),
        (np.array([0], np.uint8), np.array([254], np.uint8), "prediction holds label 254"),
    ],
)
def test_confusion_refuses(truth: NDArray, prediction: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Confusion(3).update(truth, prediction)


def test_unknown_choices() -> None:
    with pytest.raises(ValueError, match="occurring, in_ground_truth, all"):
        mean_iou(MATRIX, "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="background, ignored"):
        Confusion(3, "void")  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 2**32 - 1),
    n_maps=st.integers(0, 4),
    steps=st.lists(st.integers(0, 20), min_size=1, max_size=12, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_sweep_equals_an_argmax_per_threshold(seed: int, n_maps: int, steps: list[int]) -> None:
    """Coarse values make ties between maps, and of maps with thresholds, common."""
    generator, n_classes = np.random.default_rng(seed), 6
    thresholds = [step / 20 for step in sorted(steps)]
    sweep = ThresholdSweep(n_classes, thresholds)
    expected = np.zeros((len(thresholds), n_classes, n_classes), np.int64)
    for _ in range(2):
        truth = random_truth(generator, n_classes)
        values = (np.arange(21) / 20).astype(np.float32)
        maps = generator.choice(values, (n_maps, *truth.shape))
        classes = generator.permutation(np.arange(1, n_classes))[:n_maps]
        sweep.update(truth, maps, classes)
        expected += slow_sweep(truth, maps, classes, thresholds, n_classes)
    np.testing.assert_array_equal(sweep.matrices(), expected)


def test_best_threshold_and_parts() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    maps = np.array([[[0.1, 0.3, 0.5, 0.9]]], np.float32)
    sweep, rest = (ThresholdSweep(2, [0.05, 0.3, 0.4, 0.6]) for _ in range(2))
    rest.update(truth, maps, np.array([1]))
    sweep.add(rest)
    assert sweep.best_threshold() == (0.3, 1.0)
    with pytest.raises(ValueError, match="different"):
        sweep.add(ThresholdSweep(2, [0.05]))


def test_sweep_of_an_image_without_ground_truth() -> None:
    sweep = ThresholdSweep(3, [0.1, 0.5])
    for classes in ([1], []):
        maps = np.ones((len(classes), 2, 2), np.float32)
        sweep.update(np.full((2, 2), 255, np.uint8), maps, np.array(classes, np.int64))
    assert sweep.counts.sum() == 0


def test_sweep_refuses() -> None:
    for thresholds in ([], [0.3, 0.3], [0.4, 0.3], [0.3, 0.3 + 1e-12]):
        with pytest.raises(ValueError, match="ascending"):
            ThresholdSweep(3, thresholds)
    sweep = ThresholdSweep(3, [0.3])
    truth, maps = np.zeros((2, 2), np.uint8), np.zeros((2, 2, 2), np.float32)
    for classes in ([0, 1], [1], [1, 3]):
        with pytest.raises(ValueError, match="class ids"):
            sweep.update(truth, maps, np.array(classes))
    with pytest.raises(ValueError, match="one size"):
        sweep.update(truth[:1], maps, np.array([1, 2]))
    with pytest.raises(ValueError, match="no labelled pixel"):
        sweep.best_threshold()
