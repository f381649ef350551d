"""Scores and labels of walked maps: sizes, images without evidence, ties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from protoseg.affinity.labels import WalkInput, refined_labels, refined_scores
from protoseg.affinity.walk import WalkSettings, grid_size

SETTINGS = WalkSettings(4, 10.0, log2_steps=8, degree=112, dtype=torch.float64)


@pytest.fixture(scope="module")
def edge() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(9, 12, generator=generator, dtype=torch.float64) * 0.6


def test_scores_have_image_size_and_common_maximum_one(edge: Tensor) -> None:
    size = (35, 46)
    assert grid_size(size) == tuple(edge.shape)
    (scores,) = refined_scores([WalkInput(torch.rand(2, *size), edge, size, 1.5)], SETTINGS)
    assert scores.shape == (2, *size)
    assert scores.max() == 1


@pytest.mark.parametrize("channels", [0, 2])
def test_images_without_any_evidence_become_background(edge: Tensor, channels: int) -> None:
    image = WalkInput(torch.zeros(channels, 9, 12), edge, (35, 46), 1.0)
    (scores,) = refined_scores([image], SETTINGS)
    classes = torch.arange(channels + 1) * 3
    assert refined_labels(scores, classes, 0.25).abs().max() == 0


def test_ties_go_to_the_background() -> None:
    scores = torch.full((1, 2, 2), 0.25)
    scores[0, 0, 0] = 0.3
    assert refined_labels(scores, torch.tensor([0, 9]), 0.25).tolist() == [[9, 0], [0, 0]]


def test_classes_must_name_every_channel() -> None:
    with pytest.raises(ValueError, match="background first"):
        refined_labels(torch.rand(2, 4, 4), torch.tensor([0, 5]), 0.25)
