"""Seeds: equations 3 to 5 of SIPE pixel by pixel, and the simpler rules of figure 8."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization import seeds
from protoseg.localization.cam import class_activation_maps
from protoseg.localization.seeds import (
    make_seeds,
    one_hot_argmax,
    structure_similarity,
    threshold_seeds,
    unit_features,
)


def case(batch: int = 2, classes: int = 3, grid: tuple[int, int] = (4, 5)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return class_activation_maps(torch.randn(batch, classes, *grid)), torch.randn(batch, 6, *grid)


def slow_similarity(cam: Tensor, feature: Tensor, background_factor: float) -> Tensor:
    """Soft IoU of every pixel's structure with every map, summed pixel by pixel."""
    batch, classes, height, width = cam.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    found = torch.zeros(cam.shape, dtype=torch.float64)
    for b in range(batch):
        vectors = {place: feature[b, :, place[0], place[1]].double() for place in places}
        units = {place: v / (float(v.norm()) + 1e-5) for place, v in vectors.items()}
        for i in places:
            structure = {j: max(0.0, float(units[i] @ units[j])) for j in places}
            for k in range(classes):
                maps = {j: float(cam[b, k, j[0], j[1]]) for j in places}
                shared = math.fsum(structure[j] * maps[j] for j in places)
                union = math.fsum(structure[j] + maps[j] - structure[j] * maps[j] for j in places)
                factor = background_factor if k == 0 else 1.0
                found[b, k, i[0], i[1]] = factor * shared / (union + 1e-5)
    return found.float()


@pytest.mark.parametrize("background_factor", [1.0, 0.5])
@pytest.mark.parametrize("rows", [1, 7, 10, 20, 256])
def test_similarity_equals_the_loops(
    background_factor: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "ROWS", rows)
    cam, feature = case()
    found = structure_similarity(cam, feature, background_factor)
    expected = slow_similarity(cam, feature, background_factor)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_seeds_equal_the_loops() -> None:
    cam, feature = case(grid=(5, 5))
    found = make_seeds(cam, feature, "structure", 0.5, 0.3)
    winners = slow_similarity(cam, feature, 0.5).argmax(1)
    assert torch.equal(found.argmax(1), winners)


def test_a_map_that_is_a_structure_wins() -> None:
    """Two regions of orthogonal features; the map of class 1 covers a part of the first."""
    feature = torch.zeros(1, 2, 4, 4)
    feature[:, 0, :, :2], feature[:, 1, :, 2:] = 1, 1
    cam = torch.zeros(1, 2, 4, 4)
    cam[0, 1, :3, :2] = 1
    cam[0, 0] = 1 - cam[0, 1]
    seeds = make_seeds(cam, feature, "structure", 1.0, 0.0)
    assert (seeds[0, 1, :, :2] == 1).all()  # also the row that the map misses
    assert (seeds[0, 0, :, 2:] == 1).all()


def test_feature_on_another_grid_is_resized() -> None:
    cam, _ = case(grid=(4, 6))
    feature = torch.randn(2, 6, 8, 12)
    resized = functional.interpolate(feature, (4, 6), mode="bilinear")
    found = structure_similarity(cam, feature, 0.5)
    torch.testing.assert_close(found, structure_similarity(cam, resized, 0.5))


@pytest.mark.parametrize("rule", ["structure", "argmax", "threshold"])
def test_batch_equals_single_images(rule: str) -> None:
    cam, feature = case(batch=3)
    whole = make_seeds(cam, feature, rule, 0.5, 0.3)
    single = [make_seeds(cam[i : i + 1], feature[i : i + 1], rule, 0.5, 0.3) for i in range(3)]
    assert torch.equal(whole, torch.cat(single))
    assert torch.equal(whole.sum(1), torch.ones(3, 4, 5))


@pytest.mark.parametrize("rule", ["structure", "argmax", "threshold"])
def test_no_gradient_flows_through_seeds(rule: str) -> None:
    cam, feature = case()
    seeds = make_seeds(cam.requires_grad_(), feature.requires_grad_(), rule, 0.5, 0.3)
    assert not seeds.requires_grad


def test_argmax_and_threshold_by_hand() -> None:
    cam = torch.tensor([0.6, 0.3, 0.5]).view(1, 3, 1, 1)
    feature = torch.ones(1, 2, 1, 1)
    assert make_seeds(cam, feature, "argmax", 0.5, 0.4).flatten().tolist() == [1, 0, 0]
    assert make_seeds(cam, feature, "threshold", 0.5, 0.4).flatten().tolist() == [0, 0, 1]
    assert threshold_seeds(cam, 0.5).flatten().tolist() == [1, 0, 0]  # the background at a tie
    assert one_hot_argmax(cam).dtype == cam.dtype


def test_unknown_rule() -> None:
    cam, feature = case()
    with pytest.raises(ValueError, match="unknown seed rule 'luck'"):
        make_seeds(cam, feature, "luck", 0.5, 0.3)


def test_unit_features_of_zero_vectors() -> None:
    assert torch.equal(unit_features(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 2, 2))
    norms = unit_features(torch.full((1, 4, 2, 2), 3.0)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(1, 2, 2), atol=1e-5, rtol=0)
