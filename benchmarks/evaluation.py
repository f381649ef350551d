"""Scores: confusion of label maps, and the sweep over 56 background thresholds.

The published code loads every label into lists and counts pixel by pixel in 64 bits, once per
threshold; the library counts runs of equal pixels image by image, and all thresholds in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import cycle, islice

import numpy as np
import torch
from measure import Comparison, Cost, command, cost_of, costs_of
from numpy.typing import NDArray
from sample import HEIGHT, WIDTH, Sample, localization_maps, samples
from textbook.evaluation import Scored, confusion_at, confusion_of_labels, mean_iou, sweep
from torch.nn import functional

from protoseg.evaluation import THRESHOLDS
from protoseg.localization.fusion import fused_maps
from protoseg.metrics import Confusion, ThresholdSweep

CLASSES, SAMPLES, REPEATS = 21, 10, 3
FEW, MANY = 20, 200  # images of which memory is measured
Labels = NDArray[np.uint8]
Matrix = NDArray[np.int64]


def perturbed(mask: Labels, random: np.random.Generator) -> Labels:
    """A label map that is nearly right: every outline bent by several pixels, no void."""
    bends = torch.from_numpy(random.normal(0, 12, (1, 2, HEIGHT // 25, WIDTH // 25)))
    moved = functional.interpolate(bends, mask.shape, mode="bicubic")[0].round().long().numpy()
    rows, columns = np.indices(mask.shape) + moved
    found = mask[rows.clip(0, HEIGHT - 1), columns.clip(0, WIDTH - 1)]
    return np.where(found == 255, 0, found).astype(np.uint8)


def count(pairs: Iterable[tuple[Labels, Labels]]) -> tuple[Matrix, float]:
    """The library's confusion and mean IoU of pairs of ground truth and label map."""
    confusion = Confusion(CLASSES)
    for pair in pairs:
        confusion.update(*pair)
    return confusion.matrix, confusion.compute().mean_iou


def count_published(pairs: Iterable[tuple[Labels, Labels]]) -> tuple[Matrix, float]:
    """The same as published, the matrix filled up to all classes."""
    matrix = confusion_of_labels(pairs)
    return full(matrix), mean_iou(matrix)


def count_sweep(images: Iterable[Scored]) -> list[Matrix]:
    """The library's matrices at every threshold, from one pass."""
    counted = ThresholdSweep(CLASSES, THRESHOLDS)
    for image in images:
        counted.update(*image)
    return list(counted.matrices())


def full(matrix: Matrix) -> Matrix:
    """Filled with zeros for the classes that never occurred."""
    missing = CLASSES - len(matrix)
    return np.pad(matrix, (0, missing))


def scored(found: list[Sample]) -> list[Scored]:
    """Mask, maps and class ids of every sample."""
    maps = [localization_maps(sample, number) for number, sample in enumerate(found)]
    return [
        (sample.mask, fused_maps(one), one.classes) for sample, one in zip(found, maps, strict=True)
    ]


def repeated(images: list[Scored], number: int) -> Iterator[Scored]:
    """The images again and again, as a reader would hand them out one by one."""
    return islice(cycle(images), number)


def compare_labels(found: list[Sample]) -> Comparison:
    """One mean IoU of many label maps."""
    random = np.random.default_rng(0)
    masks = [sample.mask for sample in islice(cycle(found), MANY)]
    pairs = [(mask, perturbed(mask, random)) for mask in masks]
    (expected, textbook), (result, library) = costs_of(
        partial(count_published, pairs), partial(count, pairs), rounds=5
    )
    equal = "equal" if np.array_equal(result[0], expected[0]) else "different"
    return Comparison(
        f"one mIoU of {MANY} label maps of 500 x 375",
        textbook,
        library,
        f"matrices {equal}, mIoU differs by {abs(result[1] - expected[1]):.0e}",
        "6 times faster",
    )


def compare_sweep(found: list[Sample]) -> Comparison:
    """All thresholds: one pass beside one pass for each."""
    images = scored(found)
    expected, textbook = cost_of(partial(sweep, images, THRESHOLDS), items=len(images))
    matrices, library = cost_of(partial(count_sweep, images), repeats=REPEATS, items=len(images))
    pairs = zip(matrices, expected, strict=True)
    equal = (
        "equal" if all(np.array_equal(one, full(other)) for one, other in pairs) else "different"
    )
    return Comparison(
        f"{len(THRESHOLDS)} background thresholds, maps of an image of 500 x 375 "
        f"(mean of {len(images)})",
        textbook,
        library,
        f"matrices {equal}; peak memory with {FEW} and {MANY} images: {memory_of(images)}",
        "20 times faster, memory flat in the number of images",
    )


def memory_of(images: list[Scored]) -> str:
    """Peaks of both forms, the published one at a single threshold, in words."""

    def peaks(forms: list[Cost]) -> str:
        return " and ".join(f"{cost.mebibytes:.0f} MiB" for cost in forms)

    def one_pass(number: int) -> list[Matrix]:
        return count_sweep(repeated(images, number))

    def published(number: int) -> Matrix:
        return confusion_at(repeated(images, number), THRESHOLDS[len(THRESHOLDS) // 2])

    flat, growing = (
        [cost_of(partial(form, number))[1] for number in (FEW, MANY)]
        for form in (one_pass, published)
    )
    return f"{peaks(flat)}, one published pass {peaks(growing)}"


def compare() -> list[Comparison]:
    """Both comparisons."""
    found = samples(SAMPLES)
    return [compare_labels(found), compare_sweep(found)]


if __name__ == "__main__":
    command(compare, __doc__ or "")
