"""Region-specific prototypes and RS-CAM: equations 6 to 8 of RPC pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from protoseg.localization.cam import class_activation_maps
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.regions import merge_regions
from protoseg.localization.seeds import make_seeds, one_hot_argmax

REGIONS = 2


def case(batch: int = 2) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Features and CAM per region, and the mask: class 2 absent in the second image, a border."""
    torch.manual_seed(0)
    features = [torch.randn(batch, 6, 4, 5) for _ in range(REGIONS)]
    cams = [class_activation_maps(torch.randn(batch, 3, 4, 5)) for _ in range(REGIONS)]
    keep = torch.ones(batch, 4, 4, 5)
    keep[:, :, :, 4] = 0
    keep[1:2, 2] = 0
    return features, cams, keep


def soft_prototypes(feature: Tensor, cam: Tensor, keep: Tensor) -> Tensor:
    return seed_prototypes(feature, make_seeds(cam, feature, "soft", 1.0, 0.0) * keep)


def region_specific_cam(
    features: list[Tensor], prototypes: list[Tensor], background: str
) -> Tensor:
    pairs = zip(features, prototypes, strict=True)
    return merge_regions([prototype_maps(*pair) for pair in pairs], background)


def rs_cam(
    features: list[Tensor], cams: list[Tensor], keep: Tensor, background: str = "first"
) -> Tensor:
    pairs = zip(features, cams, strict=True)
    prototypes = [soft_prototypes(feature, cam, keep) for feature, cam in pairs]
    return region_specific_cam(features, prototypes, background)


def slow_prototype(feature: Tensor, cam: Tensor, keep: Tensor) -> Tensor:
    """Equation 6 of one image and class: features [C, h, w], CAM and mask [h, w]."""
    total, mass = torch.zeros(feature.shape[0]), 1e-5
    for y in range(cam.shape[0]):
        for x in range(cam.shape[1]):
            weight = float(cam[y, x]) * float(keep[y, x])
            total += weight * feature[:, y, x]
            mass += weight
    return total / mass


def slow_cosine(a: Tensor, b: Tensor) -> float:
    norms = float(a.norm()) * float(b.norm())
    return max(0.0, float(a @ b) / norms) if norms else 0.0


@pytest.mark.parametrize("background", ["first", "max"])
def test_equal_the_loops(background: str) -> None:
    features, cams, keep = case()
    expected = torch.zeros(2, 4, 4, 5)
    for b in range(2):
        for k in range(4):
            regions = range(1) if k == 0 and background == "first" else range(REGIONS)
            for r in regions:
                prototype = slow_prototype(features[r][b], cams[r][b, k], keep[b, k])
                found = soft_prototypes(features[r], cams[r], keep)[b, k]
                torch.testing.assert_close(found, prototype, atol=1e-6, rtol=1e-4)
                for y in range(4):
                    for x in range(5):
                        value = slow_cosine(features[r][b, :, y, x], prototype)
                        expected[b, k, y, x] = max(float(expected[b, k, y, x]), value)
    found = rs_cam(features, cams, keep, background)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_one_region_gives_the_cosine_maps() -> None:
    features, cams, keep = case()
    feature, mass = features[0], cams[0] * keep
    expected = prototype_maps(feature, seed_prototypes(feature, mass))
    for background in ("first", "max"):
        assert torch.equal(rs_cam(features[:1], cams[:1], keep, background), expected)


def test_hard_seeds_as_prototypes() -> None:
    features, cams, keep = case()
    seeds = [one_hot_argmax(cam) * keep for cam in cams]
    prototypes = [seed_prototypes(f, s) for f, s in zip(features, seeds, strict=True)]
    found = region_specific_cam(features, prototypes, "max")
    singles = [prototype_maps(f, p) for f, p in zip(features, prototypes, strict=True)]
    assert torch.equal(found, torch.maximum(*singles))


def test_background_of_the_first_region_or_of_all() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(2, 1, 3, 2, 2)
    by_first, by_maximum = (merge_regions([first, second], rule) for rule in ("first", "max"))
    assert torch.equal(by_first[:, :1], first[:, :1])
    assert torch.equal(by_first[:, 1:], by_maximum[:, 1:])
    assert torch.equal(by_maximum, torch.maximum(first, second))
    assert torch.equal(by_maximum, merge_regions([second, first], "max"))
    assert not torch.equal(by_first, by_maximum)


def test_another_region_never_lowers_a_class() -> None:
    features, cams, keep = case()
    one, two = rs_cam(features[:1], cams[:1], keep), rs_cam(features, cams, keep)
    assert (two >= one).all()
    assert (two[:, 1:] > one[:, 1:]).any()
    assert two.min() >= 0
    assert two.max() <= 1 + 1e-6


def test_a_class_without_mass_has_a_zero_map() -> None:
    features, cams, keep = case()
    cams[0][0, 3] = 0
    found = rs_cam(features, cams, keep)
    assert (found[1, 2] == 0).all()  # absent
    assert (found[0, 3] > 0).any()  # the other region has it
    cams[1][0, 3] = 0
    assert (rs_cam(features, cams, keep)[0, 3] == 0).all()


def test_padding_has_no_part_in_prototypes() -> None:
    features, cams, keep = case()
    found = soft_prototypes(features[0], cams[0], keep)
    changed = features[0].clone()
    changed[..., 4] = 1e3
    assert torch.equal(soft_prototypes(changed, cams[0], keep), found)


def test_features_take_the_gradient_and_maps_do_not() -> None:
    features, cams, keep = case()
    features[0][:, :, 0, 0] = 0
    for tensor in (*features, *cams):
        tensor.requires_grad_()
    rs_cam(features, cams, keep).sum().backward()
    assert all(cam.grad is None for cam in cams)
    for feature in features:
        assert feature.grad is not None
        assert torch.isfinite(feature.grad).all()
        assert feature.grad.count_nonzero() > 0


def test_scale_of_the_features_does_not_matter() -> None:
    features, cams, keep = case()
    scaled = [features[0], 50 * features[1]]
    expected = rs_cam(features, cams, keep)
    torch.testing.assert_close(rs_cam(scaled, cams, keep), expected, atol=1e-5, rtol=1e-4)


def test_batch_equals_single_images() -> None:
    features, cams, keep = case(3)
    whole = rs_cam(features, cams, keep)
    for i in range(3):
        one = slice(i, i + 1)
        single = rs_cam([f[one] for f in features], [c[one] for c in cams], keep[one])
        torch.testing.assert_close(whole[one], single)


def test_unknown_background() -> None:
    with pytest.raises(ValueError, match="unknown background 'luck'; known: first, max"):
        merge_regions([torch.zeros(1, 2, 1, 1)], "luck")
