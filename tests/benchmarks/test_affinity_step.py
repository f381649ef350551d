"""The benchmark's forms of the affinity loss agree, and the library stores no index buffers."""

from __future__ import annotations

import numpy as np
import torch
from affinity_step import library_step, textbook_step
from textbook.affinity_step import AffinityLoss, PathIndex

from protoseg.affinity.network import AffinityNetwork

RADIUS, GRID = 4, (12, 16)


def test_forms_give_the_same_loss_and_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, *GRID, generator=generator)
    field = torch.randn(2, 2, *GRID, generator=generator)
    values = np.array([0, 0, 3, 7, 255], np.uint8)
    labels = values[np.random.default_rng(0).integers(0, 5, (2, 6, 8))]
    labels = labels.repeat(8, axis=1).repeat(8, axis=2)
    index = PathIndex(RADIUS, GRID)
    expected = textbook_step(index, AffinityLoss(index), logits, field, labels)
    found = library_step(logits, field, labels, RADIUS)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-5, atol=1e-7)


def test_only_the_textbook_form_stores_indices() -> None:
    indices = AffinityLoss(PathIndex(RADIUS, GRID)).state_dict()
    assert any(not value.is_floating_point() for value in indices.values())
    state = AffinityNetwork((4, 4, 8, 8, 8), (4, 4, 8, 16, 16), displacement=True).state_dict()
    assert all(value.is_floating_point() for value in state.values())
    assert not any("path" in name or "index" in name for name in state)
