"""The CRF over every class gives the labels of the CRF over the likely ones."""

from __future__ import annotations

import numpy as np
import torch
from textbook.soft_crf import refined

from protoseg.pseudo_labels.crf import crf_parameters, refine_probabilities
from protoseg.segmentation.predict import likely_classes
from protoseg.settings.predictions import PredictionsCRFSettings


def test_likely_classes_give_the_labels_of_all() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (18, 25, 3), np.uint8)
    scores = random.random((9, 18, 25), np.float32)
    scores[[1, 2, 4, 5, 7, 8]] *= 1e-4
    scores /= scores.sum(axis=0)
    classes = likely_classes(torch.from_numpy(scores), 0.01).numpy()
    np.testing.assert_array_equal(classes, [0, 3, 6])
    parameters = crf_parameters(PredictionsCRFSettings())
    found = classes[refine_probabilities(image, scores[classes], parameters)]
    np.testing.assert_array_equal(found, refined(image, scores))
