"""Attention: equations 9 and 10 of RPC pixel by pixel, counts of table 5, and what S can change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.backbones.backbone import MobileNetV2
from protoseg.localization.attention import (
    FUSIONS,
    KINDS,
    SMALLEST_WEIGHT,
    Attention,
    MapAttention,
    SelfAttention,
    build_attention,
    fuse_maps,
    weigh_sides,
)
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.seeds import unit_features

WIDTHS = (4, 5, 6, 7, 8)  # stem, layer1 .. layer4
RESNET50 = (64, 256, 512, 1024, 2048)
GRID = (3, 4)
EVERY = [("sfa", fusion) for fusion in FUSIONS] + [
    (kind, "product") for kind in KINDS if kind != "sfa"
]


def layers_of(batch: int = 2) -> list[Tensor]:
    torch.manual_seed(1)
    factors = (4, 2, 1, 1)
    return [
        torch.randn(batch, width, GRID[0] * f, GRID[1] * f)
        for width, f in zip(WIDTHS[1:], factors, strict=True)
    ]


def sides_of(batch: int = 2) -> list[Tensor]:
    torch.manual_seed(2)
    return [unit_features(torch.randn(batch, width, *GRID)) for width in (3, 3, 4, 4)]


def attention_of(
    kind: str, fusion: str = "product", levels: tuple[int, ...] = (2, 3, 4)
) -> Attention:
    """Attention in evaluation mode, its norms and gains moved away from where they start."""
    torch.manual_seed(0)
    attention = build_attention(kind, WIDTHS, levels, fusion=fusion)
    for module in attention.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, 0.3, 1)
            assert module.running_mean is not None
            module.running_mean.uniform_(-0.1, 0.1)
    if isinstance(attention, SelfAttention):
        nn.init.uniform_(attention.gains, 0.5, 1)
    return attention.eval()


def map_attention(kind: str, fusion: str = "product") -> MapAttention:
    attention = attention_of(kind, fusion)
    assert isinstance(attention, MapAttention)
    return attention


def weighted(attention: Attention, layers: list[Tensor], sides: list[Tensor]) -> Tensor:
    """Refined layers and weighted sides, pooled into one tensor [B, ...]."""
    refined = torch.cat([layer.flatten(1) for layer in attention.refine(layers, GRID)], dim=1)
    return torch.cat([refined, *(side.flatten(1) for side in attention(layers, sides))], dim=1)


def convolution_weights(kind: str) -> int:
    with torch.device("meta"):
        attention = build_attention(kind, RESNET50)
    convolutions = [module for module in attention.modules() if isinstance(module, nn.Conv2d)]
    assert all(convolution.bias is None for convolution in convolutions)
    return sum(convolution.weight.numel() for convolution in convolutions)


def slow_level_map(attention: MapAttention, position: int, layer: Tensor) -> Tensor:
    """Equation 9 with loops: one weighted sum of channels per pixel, norm and ReLU written out."""
    state = {
        name.removeprefix(f"branches.{position}."): value
        for name, value in attention.state_dict().items()
    }
    deviation = math.sqrt(float(state["1.running_var"]) + 1e-5)
    found = torch.zeros(len(layer), 1, *layer.shape[-2:])
    for b in range(len(layer)):
        for y in range(layer.shape[2]):
            for x in range(layer.shape[3]):
                value = float(state["0.weight"][0, :, 0, 0] @ layer[b, :, y, x])
                value = (value - float(state["1.running_mean"])) / deviation
                value = value * float(state["1.weight"]) + float(state["1.bias"])
                found[b, 0, y, x] = max(0.0, value)
    return functional.interpolate(found, GRID, mode="bilinear")


@torch.no_grad()
def test_spatially_fused_maps_equal_the_loops() -> None:
    layers, attention = layers_of(), map_attention("sfa")
    own = [slow_level_map(attention, i, layers[i + 1]) for i in range(3)]
    product = own[0] * own[1] * own[2]
    assert (product > 0).any()
    product[product <= SMALLEST_WEIGHT] = 0
    expected = {
        "product": product.expand(-1, 4, -1, -1),  # also layer1, which attention does not read
        "one_plus_product": 1 + product.expand(-1, 4, -1, -1),
        "sum": (own[0] + own[1] + own[2]).expand(-1, 4, -1, -1),
        "separate": torch.cat([torch.ones_like(product), *own], dim=1),
    }
    for fusion in FUSIONS:
        found = map_attention("sfa", fusion).maps(layers, GRID)
        torch.testing.assert_close(found, expected[fusion], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_spatial_maps_equal_the_loops() -> None:
    layers, attention = layers_of(), map_attention("spatial")
    weight = attention.state_dict()["branches.2.0.weight"][0, :, 0, 0]
    found = attention.maps(layers, GRID)
    assert (found[:, 0] == 1).all()  # layer1 is not read
    for b in range(2):
        for y in range(GRID[0]):
            for x in range(GRID[1]):
                expected = 1 / (1 + math.exp(-float(weight @ layers[3][b, :, y, x])))
                assert float(found[b, 3, y, x]) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_pooled_maps_equal_the_loops() -> None:
    layers, attention = layers_of(), map_attention("pooled")
    kernel = attention.state_dict()["branches.2.convolution.weight"][0]
    for b, y, x in ((0, 0, 0), (1, 2, 1)):
        score = 0.0
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                if 0 <= y + dy < GRID[0] and 0 <= x + dx < GRID[1]:
                    pixel = layers[3][b, :, y + dy, x + dx]
                    score += float(kernel[0, dy + 3, dx + 3] * pixel.mean())
                    score += float(kernel[1, dy + 3, dx + 3] * pixel.max())
        found = attention.maps(layers, GRID)[b, 3, y, x]
        assert float(found) == pytest.approx(1 / (1 + math.exp(-score)), rel=1e-5)


@torch.no_grad()
def test_self_attention_equals_the_loops() -> None:
    layers, attention = layers_of(), attention_of("self")
    state, layer = attention.state_dict(), layers[3]  # on the output grid already
    query, key, value = (
        state[f"{name}.2.weight"][:, :, 0, 0] for name in ("queries", "keys", "values")
    )
    found = attention.refine(layers, GRID)[3]
    places = [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]
    for b in range(2):
        pixels = [layer[b, :, y, x] for y, x in places]
        for pixel, (y, x) in zip(pixels, places, strict=True):
            scores = [
                math.exp(float((query @ pixel) @ (key @ other)) / math.sqrt(len(query)))
                for other in pixels
            ]
            parts = [s * (value @ other) for s, other in zip(scores, pixels, strict=True)]
            expected = pixel + state["gains"][2] * torch.stack(parts).sum(0) / sum(scores)
            torch.testing.assert_close(found[b, :, y, x], expected, atol=1e-5, rtol=1e-4)


def test_self_attention_starts_as_the_plain_layers() -> None:
    layers = layers_of()
    refined = build_attention("self", WIDTHS).refine(layers, GRID)
    assert all(torch.equal(a, b) for a, b in zip(refined, layers, strict=True))
    moved = attention_of("self").refine(layers, GRID)
    assert torch.equal(moved[0], layers[0])  # not among the levels
    assert not any(torch.equal(a, b) for a, b in zip(moved[1:], layers[1:], strict=True))


def test_convolution_weights_at_resnet50() -> None:
    assert convolution_weights("sfa") == 3_584
    assert convolution_weights("spatial") == 3_584
    assert convolution_weights("pooled") == 294
    assert convolution_weights("self") == 6_881_280
    assert round((6_881_280 - 3_584) / 1e6, 3) == 6.878
    assert convolution_weights("none") == 0


def test_none_changes_nothing() -> None:
    layers, sides, attention = layers_of(), sides_of(), build_attention("none", WIDTHS)
    assert list(attention.state_dict()) == []
    found = [*attention.refine(layers, GRID), *attention(layers, sides)]
    assert all(torch.equal(a, b) for a, b in zip(found, [*layers, *sides], strict=True))


def test_fusions_by_hand() -> None:
    maps = torch.tensor([[2.0, 0.5], [3.0, 0.0]]).view(1, 2, 1, 2)
    assert fuse_maps(maps, "product").flatten().tolist() == [6, 0]
    assert fuse_maps(maps, "one_plus_product").flatten().tolist() == [7, 1]
    assert fuse_maps(maps, "sum").flatten().tolist() == [5, 0.5]
    tiny = torch.tensor([1e-3, 1e-3]).view(1, 2, 1, 1)
    assert fuse_maps(tiny, "product").item() == 0


@pytest.mark.parametrize(("kind", "fusion"), EVERY)
@torch.no_grad()
def test_batch_equals_single_images(kind: str, fusion: str) -> None:
    layers, sides, attention = layers_of(3), sides_of(3), attention_of(kind, fusion)
    whole = weighted(attention, layers, sides)
    for i in range(3):
        one = slice(i, i + 1)
        single = weighted(attention, [x[one] for x in layers], [x[one] for x in sides])
        torch.testing.assert_close(whole[one], single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_image_of_one_pixel() -> None:
    layers = [torch.randn(1, width, 1, 1) for width in WIDTHS[1:]]
    sides = [torch.ones(1, 2, 1, 1)] * 4
    for kind in KINDS:
        for side in attention_of(kind)(layers, sides):
            assert side.shape == (1, 2, 1, 1)
            assert torch.isfinite(side).all()


@pytest.mark.parametrize(("kind", "fusion"), [pair for pair in EVERY if pair[0] != "none"])
def test_gradient_reaches_attention_and_not_the_backbone(kind: str, fusion: str) -> None:
    torch.manual_seed(0)
    backbone = MobileNetV2(16, 0, "frozen", width=0.1)
    attention = build_attention(kind, backbone.widths, fusion=fusion).train()
    if isinstance(attention, SelfAttention):
        nn.init.ones_(attention.gains)
    layers = backbone(torch.randn(2, 3, 64, 64))[1:]
    branches = [nn.Conv2d(layer.shape[1], 3, 1, bias=False) for layer in layers]
    refined = attention.refine(layers, (4, 4))
    sides = [
        functional.interpolate(unit_features(branch(layer)), (4, 4), mode="bilinear")
        for branch, layer in zip(branches, refined, strict=True)
    ]
    torch.cat(attention(layers, sides), dim=1).square().sum().backward()
    assert all(parameter.grad is None for parameter in backbone.parameters())
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_before_the_normalisation_a_map_cancels() -> None:
    torch.manual_seed(0)
    branch, feature = nn.Conv2d(6, 5, 1, bias=False), 10 * torch.randn(1, 6, 3, 4)
    weight = 0.5 + torch.rand(1, 1, 3, 4)
    plain, before = unit_features(branch(feature)), unit_features(branch(weight * feature))
    torch.testing.assert_close(before, plain, atol=1e-4, rtol=0)
    assert not torch.allclose(weigh_sides([plain], weight)[0], plain, atol=1e-2)


def test_a_shared_map_changes_prototypes_and_zeroes_pixels_only() -> None:
    """Cosine maps of a given prototype ignore S, but for the pixels where it is zero."""
    torch.manual_seed(0)
    sides, shared = sides_of(1), torch.rand(1, 1, *GRID) + 0.1
    shared[..., 0, :2] = 0
    maps = shared.expand(-1, 4, -1, -1)
    plain, by_map = torch.cat(sides, 1), torch.cat(weigh_sides(sides, maps), 1)
    by_scaled = torch.cat(weigh_sides(sides, 7 * maps), 1)
    prototype, mass = torch.randn(1, 2, plain.shape[1]), torch.rand(1, 2, *GRID)
    given = prototype_maps(by_map, prototype)
    torch.testing.assert_close(given, prototype_maps(plain, prototype) * (shared > 0))
    torch.testing.assert_close(given, prototype_maps(by_scaled, prototype))
    found = prototype_maps(by_map, seed_prototypes(by_map, mass))
    weighed = prototype_maps(plain, seed_prototypes(plain, mass * shared)) * (shared > 0)
    torch.testing.assert_close(found, weighed)
    scaled = prototype_maps(by_scaled, seed_prototypes(by_scaled, mass))
    torch.testing.assert_close(found, scaled, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, prototype_maps(plain, seed_prototypes(plain, mass)), atol=1e-3)


def test_gradient_at_nearly_zero_weights_stays_small() -> None:
    """At the smallest norms a cosine multiplies gradients by 1e8; fused maps leave them out."""
    torch.manual_seed(0)
    side = unit_features(torch.randn(1, 8, 1, 4, dtype=torch.float64)).float()
    levels = torch.tensor([1e-9, 0.0, 2e-4, 1.0]).view(1, 1, 1, 4).requires_grad_()
    weighed = torch.cat(weigh_sides([side], fuse_maps(levels, "product")), dim=1)
    prototype_maps(weighed, torch.ones(1, 1, 8)).sum().backward()
    assert levels.grad is not None
    assert levels.grad.abs().max() < 1e-2


def test_maps_are_float32_under_autocast() -> None:
    layers, sides = layers_of(), sides_of()
    with torch.autocast("cpu", torch.bfloat16):
        for kind in KINDS:
            attention = attention_of(kind)
            assert all(side.dtype == torch.float32 for side in attention(layers, sides))
            if isinstance(attention, MapAttention):
                assert attention.maps(layers, GRID).dtype == torch.float32
            assert [x.shape for x in attention.refine(layers, GRID)] == [x.shape for x in layers]


def test_evaluation_leaves_the_running_statistics() -> None:
    attention = map_attention("sfa")
    before = {name: value.clone() for name, value in attention.state_dict().items()}
    attention.maps(layers_of(), GRID)
    assert all(torch.equal(before[name], x) for name, x in attention.state_dict().items())
    attention.train().maps(layers_of(), GRID)
    assert not all(torch.equal(before[name], x) for name, x in attention.state_dict().items())


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown attention 'luck'; known: none, sfa"):
        build_attention("luck", WIDTHS)
    with pytest.raises(ValueError, match="unknown fusion 'luck'; known: product"):
        build_attention("sfa", WIDTHS, fusion="luck")
    with pytest.raises(ValueError, match="fusion 'separate' gives no single map"):
        fuse_maps(torch.ones(1, 2, 1, 1), "separate")
    for levels in ((), (3, 2), (2, 2), (0, 1), (4, 5)):
        with pytest.raises(ValueError, match="set them ascending, out of 1, 2, 3, 4"):
            build_attention("sfa", WIDTHS, levels)
    with pytest.raises(ValueError, match="3 side features and maps of 4 levels"):
        map_attention("sfa")(layers_of(), sides_of()[:3])
