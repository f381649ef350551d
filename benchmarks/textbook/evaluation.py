"""Scores as chainercv computes them and IRN calls it: all labels in lists, then a loop over images.

In: label maps [H, W], 255 void in the ground truth; or CAMs. Out: confusion matrix int64, rows
ground truth, as large as the largest label asks for. Source: VOC's intersection over union; the
counting is chainercv's, generic in the number of classes and in integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]
Truth = NDArray[np.int32]
# Ground truth [H, W] uint8, CAMs [K, H, W] in [0, 1], class ids [K].
Scored = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]


def count(predictions: Iterable[NDArray[Any]], truths: Iterable[Truth]) -> Matrix:
    """Confusion matrix of the images; negative ground truth is left out."""
    classes, matrix = 0, np.zeros((0, 0), np.int64)
    for predicted, true in zip(predictions, truths, strict=True):
        predicted, true = predicted.flatten(), true.flatten()
        largest = int(np.max((predicted, true)))
        if largest >= classes:
            grown = np.zeros((largest + 1, largest + 1), np.int64)
            grown[:classes, :classes] = matrix
            classes, matrix = largest + 1, grown
        valid = true >= 0
        pairs = classes * true[valid].astype(np.int64) + predicted[valid]
        matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return matrix


def mean_iou(matrix: Matrix) -> float:
    """Mean over the classes that occur, in ground truth or prediction."""
    correct = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - correct
    return float(np.mean(correct[union > 0] / union[union > 0]))


def as_truth(mask: NDArray[np.uint8]) -> Truth:
    """Ground truth as the data set class hands it out: int32, -1 for void."""
    truth = mask.astype(np.int32)
    truth[truth == 255] = -1
    return truth


def confusion_of_labels(
    pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> Matrix:
    """Of pairs of ground truth and stored label map, whose unknown pixels are background."""
    predictions, truths = [], []
    for mask, stored in pairs:
        label = stored.copy()
        label[label == 255] = 0
        predictions.append(label)
        truths.append(as_truth(mask))
    return count(predictions, truths)


def confusion_at(images: Iterable[Scored], threshold: float) -> Matrix:
    """Of CAMs against one constant background score."""
    predictions, truths = [], []
    for mask, cams, classes in images:
        scored = np.pad(cams, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        ids = np.concatenate([[0], classes])
        predictions.append(ids[scored.argmax(axis=0)])
        truths.append(as_truth(mask))
    return count(predictions, truths)


def sweep(images: Sequence[Scored], thresholds: Sequence[float]) -> list[Matrix]:
    """One pass over the images for every threshold."""
    return [confusion_at(images, threshold) for threshold in thresholds]
