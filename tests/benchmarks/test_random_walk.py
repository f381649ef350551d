"""The benchmark's forms of the random walk give the same labels on a tiny image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_walk import Walk, inputs, library_labels, stencil_labels
from sample import Sample
from textbook.random_walk import csr_labels, dense_labels


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:Sparse invariant checks")
@pytest.mark.parametrize("walk", [dense_labels, csr_labels, stencil_labels])
def test_forms_give_the_same_labels(walk: Walk) -> None:
    random = np.random.default_rng(0)
    mask = np.zeros((37, 50), np.uint8)
    mask[5:30, 8:25], mask[12:34, 30:44] = 3, 8
    pixels = mask[..., None] * 20 + random.integers(0, 40, (37, 50, 3), dtype=np.uint8)
    given = inputs(Sample(pixels, mask), shrink=1)
    expected = walk(*given)
    assert expected.shape == (37, 50)
    assert len(expected.unique()) > 1
    assert torch.equal(library_labels(*given), expected)
