"""RPNet's region prototypes: every step pixel by pixel, and what pairs and batches leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from protoseg.localization.attention import Attention, MapAttention, build_attention
from protoseg.localization.cross_image import (
    PairBranch,
    attention_map,
    best_cosine,
    dropped_mask,
    foreground_map,
    gaussian_smooth,
    region_mask,
    region_masks,
    region_prototypes,
    swap_pairs,
)

READINGS = ["pooled", "per_level"]
KINDS = ["full", "dropped", "both"]
SIZES = ((12, 16), (6, 8), (3, 4), (3, 4))  # grids of the four layers


def levels_of(batch: int = 4, same_width: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    widths = (6, 6) if same_width else (5, 6)
    return [torch.randn(batch, width, 3, 4, generator=generator) for width in widths]


def masks_of(levels: list[Tensor], kind: str, beta: float = 0.5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(len(levels[0]), 1, 3, 4, generator=generator) < 0.7).float()
    return [region_masks(mask, beta, generator, kind) for _ in levels]


def slow_mask(feature: Tensor, alpha: float) -> Tensor:
    batch, channels, height, width = feature.shape
    mask = torch.zeros(batch, 1, height, width)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                shares = [
                    float(feature[b, c, y, x]) / (float(feature[b, c].max()) + 1e-5)
                    for c in range(channels)
                ]
                mask[b, 0, y, x] = float(max(shares) >= alpha)
    return mask


def slow_prototype(feature: Tensor, mask: Tensor) -> Tensor:
    """Masked mean of one image's feature [C, h, w]."""
    total, count = torch.zeros(feature.shape[0]), 0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x] == 1:
                total, count = total + feature[:, y, x], count + 1
    return total / max(count, 1)


def slow_cosine(one: Tensor, other: Tensor) -> float:
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms else 0.0


def slow_foreground(
    levels: list[Tensor], masks: list[Tensor], last: Tensor, reading: str, images: str
) -> Tensor:
    """One pixel after another: pooled meets the last block, per level its own features."""
    batch, _, height, width = last.shape
    found = torch.zeros(batch, 1, height, width)
    for b in range(batch):
        partner = b + 1 if b % 2 == 0 else b - 1
        sources = [b] if images == "one" else [b, partner]
        for y in range(height):
            for x in range(width):
                cosines = []
                for level, mask in zip(levels, masks, strict=True):
                    pixel = (last if reading == "pooled" else level)[b, :, y, x]
                    for source in sources:
                        for region in mask[source]:
                            prototype = slow_prototype(level[source], region)
                            cosines.append(slow_cosine(pixel, prototype))
                found[b, 0, y, x] = max(cosines)
    return found


def foreground(
    levels: list[Tensor], masks: list[Tensor], reading: str = "pooled", images: str = "two"
) -> Tensor:
    prototypes = [region_prototypes(*pair) for pair in zip(levels, masks, strict=True)]
    return foreground_map(levels, prototypes, levels[-1], reading, images)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_region_mask_equals_the_loops(alpha: float) -> None:
    feature = levels_of()[0]
    feature[1, 2] = -feature[1, 2].abs() - 0.1  # marks every pixel: x / maximum is 1 or more
    feature[2] = torch.relu(feature[2])
    found = region_mask(feature, alpha)
    assert found.shape == (4, 1, 3, 4)
    assert torch.equal(found, slow_mask(feature, alpha))
    assert (found[1] == 1).all()


def test_a_region_is_where_any_channel_is_strong() -> None:
    feature = torch.zeros(1, 2, 1, 4)
    feature[0, 0, 0] = torch.tensor([10.0, 4.0, 1.0, 0.0])
    feature[0, 1, 0] = torch.tensor([0.0, 0.0, 0.0, 0.1])
    assert region_mask(feature, 0.3).flatten().tolist() == [1, 1, 0, 1]
    assert region_mask(torch.zeros(1, 2, 2, 2), 0.3).sum() == 0


def test_masks_shrink_with_the_threshold() -> None:
    feature = torch.relu(levels_of()[0])
    areas = [float(region_mask(feature, alpha).sum()) for alpha in (0.1, 0.3, 0.6, 0.95)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1] > 0


def test_dropping_is_by_the_given_numbers() -> None:
    mask = torch.tensor([[[[1.0, 1.0, 0.0, 1.0]]]])
    uniform = torch.tensor([[[[0.1, 0.5, 0.9, 0.6]]]])
    assert dropped_mask(mask, 0.5, uniform).flatten().tolist() == [0, 1, 0, 1]
    assert torch.equal(dropped_mask(mask, 0.0, torch.zeros_like(mask)), mask)
    assert dropped_mask(mask, 1.0, uniform).sum() == 0
    assert torch.equal(mask, torch.tensor([[[[1.0, 1.0, 0.0, 1.0]]]]))


def test_dropping_is_a_function_of_the_generator() -> None:
    mask = torch.ones(2, 1, 50, 50)
    draws = [dropped_mask(mask, 0.3, torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert abs(float(draws[0].mean()) - 0.7) < 0.03
    uniform = torch.rand(mask.shape, generator=torch.Generator().manual_seed(5))
    assert torch.equal(draws[0], dropped_mask(mask, 0.3, uniform))


def test_kinds_of_masks() -> None:
    mask = (torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.7).float()
    uniform = torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    full, dropped, both = (region_masks(mask, 0.5, uniform, kind) for kind in KINDS)
    assert torch.equal(full, mask)
    assert torch.equal(dropped, dropped_mask(mask, 0.5, uniform))
    assert torch.equal(both, torch.cat([full, dropped], 1))
    assert torch.equal(region_masks(mask, 0.0, uniform, "dropped"), mask)
    with pytest.raises(ValueError, match="unknown kind of region masks 'half'"):
        region_masks(mask, 0.5, uniform, "half")


def test_prototypes_are_masked_means() -> None:
    level = levels_of()[0]
    masks = masks_of([level], "both")[0]
    masks[2, 1] = 0
    found = region_prototypes(level, masks)
    assert found.shape == (4, 2, 6)
    for b in range(4):
        for r in range(2):
            expected = slow_prototype(level[b], masks[b, r])
            torch.testing.assert_close(found[b, r], expected, atol=1e-5, rtol=1e-4)
    assert (found[2, 1] == 0).all()


def test_prototype_of_one_pixel_has_cosine_one_there() -> None:
    level = levels_of(2)[0]
    masks = torch.zeros(2, 1, 3, 4)
    masks[0, 0, 1, 2] = masks[1, 0, 2, 0] = 1
    found = foreground([level], [masks], images="one")
    torch.testing.assert_close(found[0, 0, 1, 2], torch.tensor(1.0))
    torch.testing.assert_close(found[1, 0, 2, 0], torch.tensor(1.0))
    assert found[0].argmax() == 1 * 4 + 2
    assert found[1].argmax() == 2 * 4


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("images", ["one", "two"])
@pytest.mark.parametrize("kind", KINDS)
def test_foreground_equals_the_loops(reading: str, images: str, kind: str) -> None:
    levels = levels_of(same_width=reading == "pooled")
    masks = masks_of(levels, kind)
    expected = slow_foreground(levels, masks, levels[-1], reading, images)
    found = foreground(levels, masks, reading, images)
    assert found.shape == (4, 1, 3, 4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.max() <= 1 + 1e-6
    assert found.min() >= -1 - 1e-6


@pytest.mark.parametrize("reading", READINGS)
def test_swapped_pairs_swap_the_maps(reading: str) -> None:
    levels = levels_of(same_width=reading == "pooled")
    masks = masks_of(levels, "both")
    swapped = foreground(
        [swap_pairs(level) for level in levels], [swap_pairs(mask) for mask in masks], reading
    )
    torch.testing.assert_close(swapped, swap_pairs(foreground(levels, masks, reading)))


@pytest.mark.parametrize("reading", READINGS)
def test_batch_of_pairs_equals_single_pairs(reading: str) -> None:
    levels = levels_of(6, same_width=reading == "pooled")
    masks = masks_of(levels, "both")
    whole = foreground(levels, masks, reading)
    for start in (0, 2, 4):
        rows = slice(start, start + 2)
        pair = foreground([level[rows] for level in levels], [m[rows] for m in masks], reading)
        torch.testing.assert_close(whole[rows], pair)


@pytest.mark.parametrize("reading", READINGS)
def test_the_partner_only_adds(reading: str) -> None:
    levels = levels_of(same_width=reading == "pooled")
    masks = masks_of(levels, "full")
    one, two = (foreground(levels, masks, reading, images) for images in ("one", "two"))
    assert (two >= one).all()
    assert (two > one).any()
    twins = [torch.cat([level[:1], level[:1]]) for level in levels]
    same = [torch.cat([mask[:1], mask[:1]]) for mask in masks]
    torch.testing.assert_close(
        foreground(twins, same, reading), foreground(twins, same, reading, "one")
    )


def test_more_regions_only_add() -> None:
    levels = levels_of()
    masks = masks_of(levels, "dropped")
    more = [torch.cat([mask, other], 1) for mask, other in zip(masks, masks[::-1], strict=True)]
    fewer, many = foreground(levels, masks), foreground(levels, more)
    assert (many >= fewer - 1e-6).all()
    empty = [torch.cat([mask, torch.zeros_like(mask)], 1) for mask in masks]
    torch.testing.assert_close(foreground(levels, empty), fewer.clamp(min=0))


def test_maps_ignore_the_scale_of_features_and_prototypes() -> None:
    level = levels_of()[0]
    prototypes = region_prototypes(level, masks_of([level], "full")[0])
    torch.testing.assert_close(
        best_cosine(7 * level, 0.2 * prototypes), best_cosine(level, prototypes)
    )


def test_gradient_is_finite_with_empty_pixels_and_masks() -> None:
    levels = [level.requires_grad_() for level in levels_of()]
    inputs = [level * (torch.arange(4) > 0) for level in levels]
    masks = masks_of(levels, "both")
    masks[0][1] = 0
    foreground(inputs, masks).sum().backward()
    for level in levels:
        assert level.grad is not None
        assert torch.isfinite(level.grad).all()
        assert (level.grad != 0).any()


def test_wrong_names_and_odd_batches() -> None:
    levels = levels_of(3)
    masks = masks_of(levels, "full")
    with pytest.raises(ValueError, match="a batch of 3 images holds no pairs"):
        foreground(levels, masks)
    assert foreground(levels, masks, images="one").shape == (3, 1, 3, 4)
    with pytest.raises(ValueError, match="unknown reading 'all'"):
        foreground(levels_of(), masks_of(levels_of(), "full"), "all")
    with pytest.raises(ValueError, match="unknown images 'three'"):
        foreground(levels, masks, images="three")


def test_pairs_are_neighbouring_rows() -> None:
    assert swap_pairs(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]


def test_gaussian_equals_the_loops() -> None:
    maps = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    weights = {
        (i, j): math.exp(-(i * i + j * j) / (2 * 3.0**2))
        for i in range(-2, 3)
        for j in range(-2, 3)
    }
    total = sum(weights.values())
    expected = torch.zeros_like(maps)
    for b in range(2):
        for y in range(4):
            for x in range(6):
                for (i, j), weight in weights.items():
                    if 0 <= y + i < 4 and 0 <= x + j < 6:
                        expected[b, 0, y, x] += weight / total * maps[b, 0, y + i, x + j]
    torch.testing.assert_close(gaussian_smooth(maps), expected)
    flat = gaussian_smooth(torch.ones(1, 1, 7, 7))
    torch.testing.assert_close(flat[0, 0, 2:5, 2:5], torch.ones(3, 3))


def test_attention_is_the_normalised_map() -> None:
    found = foreground(levels_of(), masks_of(levels_of(), "full"))
    plain = attention_map(found, 1.0, gaussian=False)
    torch.testing.assert_close(plain.amax((1, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    for b in range(4):
        torch.testing.assert_close(plain[b], found[b] / (found[b].max() + 1e-5))
    torch.testing.assert_close(attention_map(found, 1.3, gaussian=False), 1.3 * plain)
    smooth = attention_map(found, 1.3, gaussian=True)
    torch.testing.assert_close(smooth, gaussian_smooth(1.3 * plain))


def test_enhanced_logits_are_logits_of_enhanced_features() -> None:
    feature = levels_of()[-1]
    classifier = torch.nn.Conv2d(6, 3, 1, bias=False)
    attention = torch.rand(4, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(classifier(attention * feature), attention * classifier(feature))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("numbers", [(2,), (2, 4), (2, 3, 4)])
def test_pair_branch(reading: str, numbers: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    widths = (2, 3, 4, 5)
    layers = [torch.randn(2, width, *size) for width, size in zip(widths, SIZES, strict=True)]
    module = PairBranch(widths, numbers, 6, reading)
    levels, compared, last = module(layers, Attention())
    assert torch.equal(compared, last)
    assert last.shape == (2, 6, 3, 4)
    torch.testing.assert_close(
        last, torch.einsum("oc,bchw->bohw", module.last.weight[:, :, 0, 0], layers[3])
    )
    assert all(level.shape[-2:] == last.shape[-2:] for level in levels)
    own = [6 if reading == "pooled" or n == 4 else widths[n - 1] for n in numbers]
    assert [level.shape[1] for level in levels] == own
    if 4 in numbers:
        assert torch.equal(levels[-1], last)
    if reading == "per_level":  # half the size: bilinear is the mean of 2 x 2
        torch.testing.assert_close(levels[0], torch.nn.functional.avg_pool2d(layers[1], 2))
    names = {name for name, _ in module.named_parameters()}
    projected = {f"others.{n}.weight" for n in numbers if n != 4 and reading == "pooled"}
    assert names == {"last.weight"} | projected


def test_attention_weighs_levels_and_what_they_meet_but_not_what_is_classified() -> None:
    torch.manual_seed(0)
    widths = (2, 3, 4, 5)
    layers = [torch.randn(2, width, *size) for width, size in zip(widths, SIZES, strict=True)]
    branch = PairBranch(widths, (2, 4), 6, "pooled")
    attention = build_attention("sfa", (1, *widths), (2, 4), fusion="one_plus_product").eval()
    assert isinstance(attention, MapAttention)
    plain, weighed = branch(layers, Attention()), branch(layers, attention)
    maps = attention.maps(layers, (3, 4))[:, :1]
    assert maps.max() > 1
    torch.testing.assert_close(weighed.levels[0], plain.levels[0] * maps)
    torch.testing.assert_close(weighed.compared, plain.compared * maps)
    assert torch.equal(weighed.last, plain.last)


def test_a_level_without_the_last_block_meets_it_when_pooled() -> None:
    level, last = levels_of()
    masks = masks_of([level], "full")
    expected = slow_foreground([level], masks, last, "pooled", "two")
    found = foreground_map([level], [region_prototypes(level, masks[0])], last, "pooled", "two")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
