"""Fusion of scales by hand."""

from __future__ import annotations

import numpy as np
import torch

from protoseg.localization.fusion import fuse_scales, fused_maps, scaled_size
from protoseg.storage import ScaleMaps


def test_half_pixels_round_to_even() -> None:
    assert scaled_size((375, 500), 0.5) == (188, 250)
    assert scaled_size((5, 7), 0.5) == (2, 4)
    assert scaled_size((33, 21), 1.0) == (33, 21)


def test_scales_are_summed_and_divided_by_their_maximum() -> None:
    small, large = torch.full((1, 1, 1), 0.5), torch.tensor([[[0.5, 0.0], [0.25, 1.0]]])
    found = fuse_scales([small, large], (2, 2))
    expected = torch.tensor([[[1.0, 0.5], [0.75, 1.5]]]) / 1.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_each_map_has_its_own_maximum_and_an_empty_one_stays_empty() -> None:
    scale = torch.tensor([[[0.2, 0.1]], [[0.0, 0.0]], [[3.0, 6.0]]])
    found = fuse_scales([scale], (1, 2))
    expected = torch.tensor([[[1.0, 0.5]], [[0.0, 0.0]], [[0.5, 1.0]]])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_stored_maps_have_the_size_of_the_image() -> None:
    maps = ScaleMaps((np.ones((2, 3, 2), np.float32),), np.array([0, 2]), (33, 21))
    assert fused_maps(maps).shape == (2, 33, 21)


def test_image_without_labels_has_no_map() -> None:
    maps = ScaleMaps((np.ones((0, 3, 2), np.float32),), np.array([], np.int64), (33, 21))
    assert fused_maps(maps).shape == (0, 33, 21)
