"""Steps after the first IS-CAM: their orders, what they read, and where the gradient goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.data.images import MEAN, STD
from protoseg.localization.pamr import pamr
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.refinement import (
    normalize_maps,
    quarter_image,
    refine_maps,
    seed_maps,
)
from protoseg.localization.seeds import one_hot_argmax

ORDERS = [
    ("prototypes",),
    ("pamr", "prototypes"),
    ("prototypes", "pamr", "prototypes"),
    ("pamr", "prototypes", "prototypes"),
]


def case(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, features and images."""
    torch.manual_seed(0)
    feature = torch.randn(batch, 6, 4, 5)
    maps = prototype_maps(feature, torch.randn(batch, 4, 6))
    return maps, feature, torch.randn(batch, 3, 64, 80)


def literal(maps: Tensor, feature: Tensor, images: Tensor, steps: tuple[str, ...]) -> Tensor:
    """The steps one by one, written out."""
    plain = torch.stack([images[:, c] * STD[c] + MEAN[c] for c in range(3)], 1)
    small = functional.interpolate(plain, (16, 20), mode="bilinear", align_corners=True)
    for step in steps:
        if step == "pamr":
            large = functional.interpolate(maps, (16, 20), mode="bilinear", align_corners=True)
            refined = pamr(small, large)
            maps = functional.interpolate(refined, (4, 5), mode="bilinear", align_corners=True)
        else:
            winners = maps.argmax(1, keepdim=True)
            seeds = torch.cat([(winners == k).float() for k in range(maps.shape[1])], 1)
            maps = prototype_maps(feature, seed_prototypes(feature, seeds))
    return maps


@pytest.mark.parametrize("steps", ORDERS, ids="-".join)
def test_orders_of_table_3(steps: tuple[str, ...]) -> None:
    maps, feature, images = case()
    found = refine_maps(maps, feature, images, steps)
    torch.testing.assert_close(found, literal(maps, feature, images, steps))


def test_no_step_changes_nothing() -> None:
    maps, feature, _ = case()
    assert refine_maps(maps, feature, None, ()) is maps


def test_absent_classes_stay_empty() -> None:
    maps, feature, images = case()
    maps[:, 2] = 0
    found = refine_maps(maps, feature, images, ("pamr", "prototypes"))
    assert (found[:, 2] == 0).all()
    assert (found[:, 1] > 0).any()


def test_ties_are_background() -> None:
    _, feature, images = case(1)
    found = refine_maps(torch.zeros(1, 4, 4, 5), feature, images, ("pamr", "prototypes"))
    assert (found[:, 1:] == 0).all()
    assert (found[:, 0] > 0).any()


def test_gradient_reaches_the_feature_through_the_last_prototypes_alone() -> None:
    maps, feature, images = case()
    found = refine_maps(
        maps.requires_grad_(), feature.requires_grad_(), images, ("pamr", "prototypes")
    )
    found.sum().backward()
    assert maps.grad is None
    assert feature.grad is not None
    assert feature.grad.count_nonzero()


def test_settings_of_pamr_reach_it() -> None:
    maps, feature, images = case()
    published = refine_maps(maps, feature, images, ("pamr",))
    found = [
        refine_maps(maps, feature, images, ("pamr",), kernel="gaussian"),
        refine_maps(maps, feature, images, ("pamr",), dilations=(1, 2)),
        refine_maps(maps, feature, images, ("pamr",), iterations=3),
    ]
    assert not any(torch.allclose(other, published) for other in found)


@pytest.mark.parametrize("steps", ORDERS, ids="-".join)
def test_batch_equals_single_images(steps: tuple[str, ...]) -> None:
    maps, feature, images = case(3)
    one = [slice(i, i + 1) for i in range(3)]
    singles = [refine_maps(maps[i], feature[i], images[i], steps) for i in one]
    torch.testing.assert_close(refine_maps(maps, feature, images, steps), torch.cat(singles))


def test_background_without_a_prototype_is_the_rest() -> None:
    maps, feature, images = case()
    seeds = one_hot_argmax(maps)
    published = seed_maps(feature, seeds, True)
    found = seed_maps(feature, seeds, False)
    torch.testing.assert_close(found[:, 1:], published[:, 1:])
    torch.testing.assert_close(found[:, 0], 1 - published[:, 1:].amax(1))
    refined = refine_maps(maps, feature, images, ("prototypes",), background_prototype=False)
    torch.testing.assert_close(refined, found)


def test_quarter_image_is_in_the_range_of_colours() -> None:
    colours = torch.rand(1, 3, 30, 23)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    found = quarter_image((colours - mean) / deviation)
    assert found.shape == (1, 3, 7, 5)
    corners = colours[..., ::29, ::22]
    torch.testing.assert_close(found[..., ::6, ::4], corners)
    assert quarter_image(colours[..., :3, :2]).shape == (1, 3, 1, 1)


def test_normalisation_by_hand() -> None:
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = normalize_maps(maps, "maximum")[0]
    torch.testing.assert_close(found, maps[0] / 5, atol=1e-5, rtol=0)
    found = normalize_maps(maps, "min_max")[0]
    torch.testing.assert_close(found, (maps[0] - 1) / 4, atol=1e-5, rtol=0)
    for rule in ("maximum", "min_max"):
        assert (normalize_maps(maps, rule)[1] == 0).all()


def test_unknown_names_and_missing_images() -> None:
    maps, feature, images = case()
    with pytest.raises(ValueError, match="unknown step 'prototype'; known: pamr, prototypes"):
        refine_maps(maps, feature, images, ("prototype",))
    with pytest.raises(ValueError, match="none were given"):
        refine_maps(maps, feature, None, ("pamr", "prototypes"))
    with pytest.raises(ValueError, match="unknown normalisation 'mean'"):
        normalize_maps(maps, "mean")
