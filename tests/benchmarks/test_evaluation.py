"""The published loop over lists gives the library's counts, of labels and at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from textbook.evaluation import Scored, confusion_of_labels, mean_iou, sweep

from protoseg.metrics import Confusion, ThresholdSweep

CLASSES = 5


def test_counts_of_label_maps() -> None:
    random = np.random.default_rng(0)
    values = np.array([0, 1, 2, CLASSES - 1, 255], np.uint8)
    pairs = [tuple(random.choice(values, (2, 9, 7))) for _ in range(3)]
    confusion = Confusion(CLASSES)
    for truth, prediction in pairs:
        confusion.update(truth, prediction)
    expected = confusion_of_labels(pairs)
    np.testing.assert_array_equal(confusion.matrix, expected)
    assert confusion.compute().mean_iou == pytest.approx(mean_iou(expected), abs=1e-12)


def test_counts_at_every_threshold() -> None:
    random = np.random.default_rng(0)
    thresholds = [0.1, 0.25, 0.5]
    images: list[Scored] = []
    for _ in range(2):
        truth = random.choice(np.array([0, 1, CLASSES - 1, 255], np.uint8), (9, 7))
        maps = random.choice(np.arange(9) / 8, (2, 9, 7)).astype(np.float32)
        images.append((truth, maps, np.array([1, 3])))
    counted = ThresholdSweep(CLASSES, thresholds)
    for image in images:
        counted.update(*image)
    np.testing.assert_array_equal(counted.matrices(), sweep(images, thresholds))
