"""The largest tensor of a training step is that of its images, features or maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from protoseg.localization.method import training_losses
from protoseg.localization.network import Features
from protoseg.localization.seeds import ROWS
from protoseg.settings.classifier import ClassifierSettings

BATCH, CLASSES, CHANNELS, GRID = 2, 20, 24, (40, 32)
IMAGE = (GRID[0] * 16, GRID[1] * 16)
SIPE = ClassifierSettings(prototypes="image")


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


def largest_of_a_step(settings: ClassifierSettings, regions: int = 1) -> int:
    torch.manual_seed(0)
    found = [
        Features(
            torch.randn(BATCH, CLASSES, *GRID, requires_grad=True),
            torch.randn(BATCH, CHANNELS, *GRID, requires_grad=True),
            torch.randn(BATCH, CHANNELS, *GRID, requires_grad=True),
        )
        for _ in range(regions)
    ]
    features = found[0]._replace(further=tuple(found[1:]))
    label = (torch.rand(BATCH, CLASSES) < 0.2).float()
    box = torch.tensor([[0, IMAGE[0], 0, IMAGE[1]]] * BATCH)
    images = torch.randn(BATCH, 3, *IMAGE)
    with LargestTensor() as record:
        losses = training_losses(features, label, box, IMAGE, settings, images)
        losses["total"].backward()
    return record.elements


@pytest.mark.parametrize("regions", [1, 2])
def test_a_step_grows_with_the_grid_not_with_its_square(regions: int) -> None:
    cells = GRID[0] * GRID[1]
    images = 3 * IMAGE[0] * IMAGE[1]
    allowed = BATCH * max(ROWS * cells, (CLASSES + 1) * cells, CHANNELS * cells, images)
    assert allowed < BATCH * cells * cells
    for settings in (SIPE, replace(SIPE, seeds="soft")):
        assert largest_of_a_step(settings, regions) <= allowed


def test_refinement_weighs_each_neighbour_once_for_all_classes() -> None:
    settings = replace(SIPE, refinement=("pamr", "prototypes"))
    height, width, border = IMAGE[0] // 4, IMAGE[1] // 4, 2 * max(settings.pamr_dilations)
    weights = 8 * len(settings.pamr_dilations) * height * width
    padded = (CLASSES + 1) * (height + border) * (width + border)
    assert max(weights, padded) < weights * (CLASSES + 1) / 2
    assert largest_of_a_step(settings) <= BATCH * max(weights, padded)
