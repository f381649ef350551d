"""Segmentation scores from a confusion matrix, and the sweep over background thresholds.

In: ground truth and predicted labels [H, W], or localization maps. Out: int64 confusion matrices
(rows ground truth, columns prediction; ground truth 255 left out) and the scores read off them.
Source: VOC's intersection over union; the averages are those of chainercv (``occurring``), of the
common PyTorch evaluation scripts (``in_ground_truth``) and of SEAM's script (``all``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORED = 255
# SEAM's script adds this to denominators, which gives an absent class the score 0.
DENOMINATOR_OFFSET = 1e-10

Average = Literal["occurring", "in_ground_truth", "all"]
VoidPrediction = Literal["background", "ignored"]
Labels = NDArray[np.uint8]
Counts = NDArray[np.int64]
Rates = NDArray[np.float64]


class Confusion:
    """Confusion matrix that grows image by image: ``matrix`` [n, n] int64, rows ground truth.

    Args:
        n_classes: classes with the background; labels are 0 to n_classes - 1.
        void_prediction: what a predicted 255 means: ``background`` (class 0) or ``ignored`` (the
            pixel does not count).
    """

    def __init__(self, n_classes: int, void_prediction: VoidPrediction = "background") -> None:
        _check_choice("void_prediction", void_prediction, VoidPrediction)
        self.n_classes = n_classes
        self.void_prediction = void_prediction
        self.matrix: Counts = np.zeros((n_classes, n_classes), np.int64)

    def update(self, ground_truth: Labels, prediction: Labels) -> None:
        """Count the pixels of one image; both arrays uint8 of one shape, 255 void.

        Raises:
            ValueError: the shapes differ, not uint8, or a label neither 255 nor below n_classes.
        """
        _check_form(ground_truth, "ground truth", prediction.shape)
        _check_form(prediction, "prediction", ground_truth.shape)
        true, predicted, lengths = _runs(ground_truth.ravel(), prediction.ravel())
        _check_values(true, "ground truth", self.n_classes)
        _check_values(predicted, "prediction", self.n_classes)
        void = predicted == IGNORED
        if self.void_prediction == "background":
            predicted[void] = 0
        else:
            lengths[void] = 0
        n = self.n_classes
        # Void ground truth falls behind the n * n bins. Float64 counts are exact to 2**53 pixels.
        bins = true.astype(np.int64) * n + predicted
        counts = np.bincount(bins, lengths, minlength=n * n)[: n * n].reshape(n, n)
        self.matrix += counts.astype(np.int64)

    def add(self, other: Confusion) -> None:
        """Add the counts of another part of the data set (a worker's, a rank's)."""
        if (self.n_classes, self.void_prediction) != (other.n_classes, other.void_prediction):
            raise ValueError("confusion matrices of different class counts or void rules")
        self.matrix += other.matrix

    def compute(self, average: Average = "occurring") -> Scores:
        """The scores of all images so far; see `compute_scores`."""
        return compute_scores(self.matrix, average)


@dataclass(frozen=True)
class Scores:
    """All in [0, 1]; per-class arrays are [n].

    ``mean_iou`` averages ``iou`` over the ``classes_counted`` classes of the chosen average;
    ``over_rate`` and ``under_rate`` are the shares of a class's union that are predicted but not
    true and true but not predicted. NaN where a class, or the whole matrix, has no pixel.
    """

    iou: Rates
    mean_iou: float
    classes_counted: int
    pixel_accuracy: float
    mean_class_accuracy: float
    frequency_weighted_iou: float
    over_rate: Rates
    under_rate: Rates


def intersection_over_union(matrix: Counts, average: Average = "occurring") -> Rates:
    """IoU [..., n] of confusion matrices [..., n, n].

    A class in neither ground truth nor prediction is NaN; under ``all`` it is 0.
    """
    correct, _, _, union = _marginals(matrix)
    if average == "all":
        return correct / (union + DENOMINATOR_OFFSET)
    return _divide(correct, union)


def mean_iou(matrix: Counts, average: Average = "occurring") -> tuple[Rates, Counts]:
    """Mean IoU [...] of confusion matrices [..., n, n], and the number of classes averaged [...].

    Args:
        matrix: rows ground truth.
        average: the classes that count: ``occurring`` in ground truth or prediction (one that is
            only predicted counts 0), ``in_ground_truth`` alone, or ``all`` (absent ones count 0).

    Raises:
        ValueError: an unknown average.
    """
    _check_choice("average", average, Average)
    _, true, _, union = _marginals(matrix)
    counted = {"occurring": union > 0, "in_ground_truth": true > 0, "all": union >= 0}[average]
    n_counted = np.asarray(counted.sum(axis=-1))
    iou = intersection_over_union(matrix, average)
    return _divide(np.where(counted, iou, 0.0).sum(axis=-1), n_counted), n_counted


def compute_scores(matrix: Counts, average: Average = "occurring") -> Scores:
    """Every score of one confusion matrix [n, n]; see `mean_iou` for ``average``."""
    correct, true, predicted, union = _marginals(matrix)
    mean, n_counted = mean_iou(matrix, average)
    class_accuracy = _divide(correct, true)[true > 0]
    weighted_iou = (true * _divide(correct, union))[true > 0]
    return Scores(
        iou=intersection_over_union(matrix, average),
        mean_iou=float(mean),
        classes_counted=int(n_counted),
        pixel_accuracy=float(_divide(correct.sum(), true.sum())),
        mean_class_accuracy=float(_divide(class_accuracy.sum(), class_accuracy.size)),
        frequency_weighted_iou=float(_divide(weighted_iou.sum(), true.sum())),
        over_rate=_divide(predicted - correct, union),
        under_rate=_divide(true - correct, union),
    )


class ThresholdSweep:
    """Confusion matrices of maps against T constant background scores, in one pass over the maps.

    A pixel is background where its highest foreground map does not exceed the threshold, in
    float32, equality included. So only that maximum's rank among the thresholds is counted, per
    (ground truth, class of the maximum); all T matrices follow from the counts' running sums.

    Args:
        n_classes: classes with the background.
        thresholds: [T], ascending and distinct in float32.
    """

    def __init__(self, n_classes: int, thresholds: Sequence[float]) -> None:
        self.n_classes = n_classes
        self.thresholds = [float(threshold) for threshold in thresholds]
        self._limits = np.array(self.thresholds, np.float32)
        if self._limits.size == 0 or not (np.diff(self._limits) > 0).all():
            raise ValueError(f"thresholds must be ascending and distinct, got {self.thresholds}")
        self.counts: Counts = np.zeros((n_classes, n_classes, len(thresholds) + 1), np.int64)

    def update(
        self, ground_truth: Labels, maps: NDArray[np.float32], classes: NDArray[np.integer]
    ) -> None:
        """Count one image: labels [H, W] uint8, foreground maps [n, H, W], their class ids [n].

        Raises:
            ValueError: shapes or class ids do not fit each other or n_classes.
        """
        _check_form(ground_truth, "ground truth", maps.shape[1:])
        _check_values(ground_truth, "ground truth", self.n_classes)
        ids = np.asarray(classes, np.int64)
        if len(ids) != len(maps) or not ((ids > 0) & (ids < self.n_classes)).all():
            raise ValueError(
                f"class ids {ids.tolist()} for {len(maps)} foreground maps and {self.n_classes} "
                "classes; a background map takes no part in a threshold sweep"
            )
        counted = ground_truth != IGNORED
        true = ground_truth[counted]
        winner, exceeded = np.zeros(true.shape, np.int64), np.zeros(true.shape, np.int64)
        if ids.size:
            scores = maps.astype(np.float32, copy=False)
            winner = scores.argmax(axis=0)[counted]
            exceeded = np.searchsorted(self._limits, scores.max(axis=0)[counted], side="left")
        # Only the classes of this image: counts over all pairs of 81 classes take 3 MB.
        rows, columns = np.flatnonzero(np.bincount(true)), ids if ids.size else np.zeros(1, int)
        shape = (len(rows), len(columns), self.counts.shape[2])
        bins = np.ravel_multi_index((np.searchsorted(rows, true), winner, exceeded), shape)
        counts = np.bincount(bins, minlength=math.prod(shape)).reshape(shape)
        np.add.at(self.counts, np.ix_(rows, columns), counts)

    def add(self, other: ThresholdSweep) -> None:
        """Add the counts of another part of the data set (a worker's, a rank's)."""
        if self.n_classes != other.n_classes or self.thresholds != other.thresholds:
            raise ValueError("threshold sweeps of different class counts or thresholds")
        self.counts += other.counts

    def matrices(self) -> Counts:
        """Confusion matrices [T, n, n], one per threshold."""
        at_most = self.counts.cumsum(axis=-1)
        foreground = at_most[..., -1:] - at_most[..., :-1]  # [n, n, T]
        matrices = np.moveaxis(foreground, -1, 0).copy()
        matrices[:, :, 0] += at_most[..., :-1].sum(axis=1).T
        return matrices

    def best_threshold(self, average: Average = "occurring") -> tuple[float, float]:
        """The threshold of the highest mean IoU (the lowest one at a tie), and that mean IoU."""
        means, _ = mean_iou(self.matrices(), average)
        if np.isnan(means).all():
            raise ValueError("no labelled pixel was counted; check the list of ground truth masks")
        best = int(np.nanargmax(means))
        return self.thresholds[best], float(means[best])


def _runs(ground_truth: Labels, prediction: Labels) -> tuple[Labels, Labels, Counts]:
    """Pixels [N] as runs of one pair: true labels, predicted labels and lengths, all [R].

    Label maps are regions: there are some hundred times fewer runs than pixels to count.
    """
    changes = np.ones(ground_truth.size, bool)  # the last pixel ends a run
    np.not_equal(ground_truth[1:], ground_truth[:-1], out=changes[:-1])
    changes[:-1] |= prediction[1:] != prediction[:-1]
    ends = np.flatnonzero(changes)
    return ground_truth[ends], prediction[ends], np.diff(ends, prepend=-1)


def _marginals(matrix: Counts) -> tuple[Counts, Counts, Counts, Counts]:
    """Diagonal, row sums, column sums and unions [..., n] of matrices [..., n, n]."""
    correct = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    return correct, true, predicted, true + predicted - correct


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> Rates:
    """Quotient, NaN where the denominator is 0."""
    below = np.asarray(denominator, np.float64)
    result = np.full(below.shape, np.nan)
    np.divide(numerator, below, out=result, where=below > 0)
    return result


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} {value!r}; choose one of {', '.join(get_args(choices))}")


def _check_form(labels: Labels, name: str, shape: tuple[int, ...]) -> None:
    """Refuse anything but uint8 of this shape."""
    if labels.dtype != np.uint8 or labels.shape != shape:
        raise ValueError(
            f"{name} is {list(labels.shape)} of {labels.dtype}, expected {list(shape)} of uint8; "
            "ground truth, predictions and maps must have one size"
        )


def _check_values(labels: Labels, name: str, n_classes: int) -> None:
    """Refuse labels that are neither below ``n_classes`` nor 255."""
    unknown = labels[(labels >= n_classes) & (labels != IGNORED)]
    if unknown.size:
        raise ValueError(f"{name} holds label {unknown.max()}, but there are {n_classes} classes")
