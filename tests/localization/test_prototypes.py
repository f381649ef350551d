"""Prototypes and IS-CAM: equations 6 and 7 of SIPE pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.seeds import one_hot_argmax


def case(batch: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(batch, 7, 4, 5), one_hot_argmax(torch.rand(batch, 3, 4, 5))


def slow_maps(feature: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = feature.shape
    classes = seeds.shape[1]
    prototypes = torch.zeros(batch, classes, channels)
    maps = torch.zeros(batch, classes, height, width)
    places = [(y, x) for y in range(height) for x in range(width)]
    for b in range(batch):
        for k in range(classes):
            chosen = [feature[b, :, y, x] for y, x in places if seeds[b, k, y, x] == 1]
            if not chosen:
                continue
            prototypes[b, k] = torch.stack(chosen).sum(0) / (len(chosen) + 1e-5)
            for y, x in places:
                vector = feature[b, :, y, x]
                cosine = float(vector @ prototypes[b, k] / vector.norm() / prototypes[b, k].norm())
                maps[b, k, y, x] = max(0.0, cosine)
    return prototypes, maps


def test_equal_the_loops() -> None:
    feature, seeds = case()
    seeds[1, 2] = 0
    prototypes, maps = slow_maps(feature, seeds)
    found = seed_prototypes(feature, seeds)
    torch.testing.assert_close(found, prototypes)
    torch.testing.assert_close(prototype_maps(feature, found), maps, atol=1e-6, rtol=1e-5)


def test_prototype_of_one_pixel_has_cosine_one_there() -> None:
    feature, _ = case(1)
    seeds = torch.zeros(1, 1, 4, 5)
    seeds[0, 0, 2, 3] = 1
    prototypes = seed_prototypes(feature, seeds)
    torch.testing.assert_close(prototypes[0, 0], feature[0, :, 2, 3], atol=1e-4, rtol=0)
    maps = prototype_maps(feature, prototypes)
    torch.testing.assert_close(maps[0, 0, 2, 3], torch.tensor(1.0))
    assert maps.argmax() == 2 * 5 + 3


def test_empty_class_has_a_zero_prototype_and_map() -> None:
    feature, seeds = case()
    seeds[:, 1] = 0
    prototypes = seed_prototypes(feature, seeds)
    assert (prototypes[:, 1] == 0).all()
    assert (prototype_maps(feature, prototypes)[:, 1] == 0).all()


def test_gradient_of_an_empty_class_is_finite() -> None:
    feature, seeds = case()
    seeds[:, 1] = 0
    feature[:, :, 0, 0] = 0
    feature.requires_grad_()
    prototype_maps(feature, seed_prototypes(feature, seeds)).sum().backward()
    assert feature.grad is not None
    assert torch.isfinite(feature.grad).all()


def test_range_and_scale() -> None:
    feature, seeds = case()
    maps = prototype_maps(feature, seed_prototypes(feature, seeds))
    assert maps.min() >= 0
    assert maps.max() <= 1 + 1e-6
    scaled = prototype_maps(100 * feature, seed_prototypes(feature, seeds))
    torch.testing.assert_close(scaled, maps)


def test_batch_equals_single_images() -> None:
    feature, seeds = case(3)
    whole = prototype_maps(feature, seed_prototypes(feature, seeds))
    for i in range(3):
        one = slice(i, i + 1)
        single = prototype_maps(feature[one], seed_prototypes(feature[one], seeds[one]))
        torch.testing.assert_close(whole[one], single)
