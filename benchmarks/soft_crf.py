"""denseCRF on a segmenter's probabilities: over all classes, and over those likely somewhere.

The published code runs it over every class of the data set; `predict` keeps the classes that reach
`minimum_probability` at some pixel, and `refine_predictions` runs over them.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from measure import Comparison, command, costs_of
from numpy.typing import NDArray
from sample import Sample, samples
from textbook.soft_crf import refined
from torch.nn import functional

from protoseg.pseudo_labels.crf import crf_parameters, refine_probabilities
from protoseg.segmentation.predict import likely_classes
from protoseg.settings.predictions import PredictionsCRFSettings, PredictionsSettings

IMAGES, ROUNDS = 4, 3
TARGETS = {21: 2, 81: 8}  # classes with the background -> times faster
GRID = (47, 63)  # of the segmenter, at stride 8
PARAMETERS = crf_parameters(PredictionsCRFSettings())
MINIMUM = PredictionsSettings().minimum_probability
Inputs = list[tuple[NDArray[np.uint8], NDArray[np.float32]]]


def probabilities(sample: Sample, classes: int, seed: int) -> NDArray[np.float32]:
    """Probabilities [C, H, W] as a segmenter might give them, blurred and noisy.

    The classes of the mask, and one that is not there but likely in a spot, stand out; the others
    have a few ten-thousandths each.
    """
    generator = torch.Generator().manual_seed(seed)
    present = [0, *np.setdiff1d(sample.mask, [0, 255]).tolist()]
    mask = np.where(sample.mask == 255, 0, sample.mask)
    shares = torch.from_numpy(mask == np.arange(classes)[:, None, None]).float()
    coarse = functional.adaptive_avg_pool2d(shares[None], GRID)[0]
    logits = 8 * functional.avg_pool2d(coarse, 5, 1, 2, count_include_pad=False)
    logits[present] += 4
    wrong = next(identifier for identifier in range(1, classes) if identifier not in present)
    logits[wrong, 15:25, 20:35] += 11
    logits += 0.5 * torch.randn(logits.shape, generator=generator)
    size = sample.mask.shape
    return functional.interpolate(logits[None], size, mode="bilinear")[0].softmax(0).numpy()


def published(inputs: Inputs) -> NDArray[np.int64]:
    """Label maps [M, H, W] of M images."""
    return np.stack([refined(*one) for one in inputs])


def of_library(inputs: Inputs) -> tuple[NDArray[np.int64], float]:
    """The same as the pipeline makes them, and the mean number of classes that take part."""
    labels, counts = [], []
    for pixels, scores in inputs:
        classes = likely_classes(torch.from_numpy(scores), MINIMUM).numpy()
        kept = scores[classes]
        winners = refine_probabilities(pixels, kept / kept.sum(axis=0), PARAMETERS)
        labels.append(classes[winners])
        counts.append(len(classes))
    return np.stack(labels), float(np.mean(counts))


def compare_classes(found: list[Sample], classes: int) -> Comparison:
    """Both forms for one number of classes."""
    inputs = [(one.pixels, probabilities(one, classes, seed)) for seed, one in enumerate(found)]
    (expected, textbook), (result, library) = costs_of(
        partial(published, inputs), partial(of_library, inputs), rounds=ROUNDS, items=len(inputs)
    )
    labels, likely = result
    moved = np.mean(expected != np.stack([scores.argmax(axis=0) for _, scores in inputs]))
    return Comparison(
        f"segmenter's denseCRF, {classes} classes, an image of 500 x 375 (mean of {len(inputs)})",
        textbook,
        library,
        f"{np.mean(labels != expected):.4%} of pixels differ (the CRF itself moves {moved:.1%}); "
        f"{likely:.1f} classes likely, by mean",
        f"{TARGETS[classes]} times faster, at most 0.1 % of pixels differ",
    )


def compare() -> list[Comparison]:
    """With the classes of VOC and of COCO."""
    found = samples(IMAGES)
    return [compare_classes(found, classes) for classes in TARGETS]


if __name__ == "__main__":
    command(compare, __doc__ or "")
