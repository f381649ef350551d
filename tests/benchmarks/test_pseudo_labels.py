"""IRN's step with a CRF per pass gives the library's labels."""

from __future__ import annotations

import numpy as np
import pytest
from textbook.pseudo_labels import BACKGROUND_SCORE, FOREGROUND_SCORE, ir_label

from protoseg.pseudo_labels.crf import crf_parameters
from protoseg.pseudo_labels.labels import pseudo_labels
from protoseg.settings.schema import PseudoLabelsSettings


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_ir_labels_are_those_of_a_crf_per_pass(classes: int) -> None:
    random = np.random.default_rng(classes)
    image = random.integers(0, 256, (18, 25, 3), np.uint8)
    maps = random.random((classes, 18, 25), np.float32) ** 3
    ids = np.arange(3, 3 + classes)
    settings = PseudoLabelsSettings()
    _, found = pseudo_labels(
        image,
        maps,
        ids,
        background=FOREGROUND_SCORE,
        ir_background=BACKGROUND_SCORE,
        confidence=settings.confidence,
        parameters=crf_parameters(settings),
    )
    expected = ir_label(image, maps, ids)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found, expected)
