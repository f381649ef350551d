"""Cases of the golden folder `features`, from which the topics sipe and ae_sipe start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import GOLDEN
from torch import Tensor, nn

from protoseg.backbones import Backbone
from protoseg.localization.cam import grid_validity
from protoseg.localization.network import LocalizationNetwork


class StageOutputs(Backbone):
    """Stands where a backbone would: only its widths matter, stage outputs are injected."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(0, "frozen")
        self.widths = widths

    def stage_modules(self) -> list[nn.Module]:
        return []


def case_of(file: Path) -> dict[str, Any]:
    return dict(np.load(GOLDEN / "features" / f"case_{file.name[0]}.npz"))


def stages_of(case: dict[str, Any], batch: slice = slice(0, 2)) -> tuple[Tensor, ...]:
    layers = [torch.from_numpy(case[f"features_layer{i}"][batch]) for i in (1, 2, 3, 4)]
    return (layers[0], *layers)  # the stem is not read


def network_of(case: dict[str, Any]) -> LocalizationNetwork:
    weights = np.load(GOLDEN / "features" / "weights.npz")
    classes = case["label"].shape[1]
    sides = [torch.from_numpy(weights[f"side{i}"]) for i in (1, 2, 3, 4)]
    widths = (1, *(side.shape[1] for side in sides))
    network = LocalizationNetwork(
        StageOutputs(widths), classes, tuple(side.shape[0] for side in sides)
    )
    classifier = torch.from_numpy(weights[f"classifier_k{classes}"])
    network.classifier.weight.data = classifier[:, :, None, None]
    for branch, side in zip(network.side, sides, strict=True):
        branch.weight.data = side[:, :, None, None]
    return network


def valid_box(case: dict[str, Any]) -> Tensor:
    return torch.from_numpy(case["valid_box"]).long()


def image_size(case: dict[str, Any]) -> tuple[int, int]:
    return case["image"].shape[0], case["image"].shape[1]


def keep_of(case: dict[str, Any], grid: tuple[int, int]) -> Tensor:
    return grid_validity(torch.from_numpy(case["label"]), valid_box(case), image_size(case), grid)


def assert_seeds(seeds: Tensor, expected: Any, margin: Any) -> None:
    clear = torch.from_numpy(margin > 1e-5)
    difference = (seeds != torch.from_numpy(expected).to(seeds)).any(dim=-3)
    assert not (difference & clear).any()


def close(found: Tensor, expected: Any, atol: float = 1e-5, rtol: float = 0.0) -> None:
    reference = torch.as_tensor(expected).to(found.dtype)
    torch.testing.assert_close(found.detach(), reference, atol=atol, rtol=rtol)
