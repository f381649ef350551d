"""Attention on the levels of the hierarchical feature: spatially fused (SFA), spatial, self.

In: outputs of layer1 .. layer4, [B, C_l, H_l, W_l], and their unit side features [B, D_l, h, w] on
the output grid (1/16). Out: the side features, weighted. Source: RPC, equations 9 and 10, tables 5
and 8; CBAM for the pooled maps; non-local networks for self attention.

An attention has two places in a network, and each kind uses one of them:

- `refine` turns stage outputs into those that the side branches read (``self``);
- calling it, ``attention(layers, sides)``, multiplies the side features by maps (all others), and
  `weigh` does so with the features of RPNet's pairs.

Maps multiply after each level was divided by its L2 norm. Before it they would cancel: a side
branch is linear, and s f / |s f| = f / |f| for every s > 0. After it, a map that all levels share
(SFA) still cancels in the cosine of its own pixel. What it does is to weigh the pixels of a
prototype, and to leave out pixels where it is zero.

Convolution weights at ResNet-50's levels 2 to 4, beside the figures that table 5 prints:

| kind | weights | printed |
| --- | --- | --- |
| ``sfa`` | 512 + 1024 + 2048 = 3,584 | 3.584K |
| ``spatial`` | 3,584: the same 1x1 convolutions, not fused | 3.584K |
| ``pooled`` | 3 x 98 = 294 | not in the table |
| ``self`` | 6,881,280: queries and keys C / 8, values C, no bias | 6.878M |

No common choice of widths, biases and output convolution gives 6.878M. C / 8, C / 8 and C come
nearest; less the 3,584 of SFA they are 6,877,696, so the paper may print that difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("none", "sfa", "spatial", "pooled", "self")
FUSIONS = ("product", "one_plus_product", "sum", "separate")

# A pixel with a smaller fused value is left out. The gradient of its cosine is zero in theory, but
# rounding makes it 1e-7 / value, and below the floor of the norm it is multiplied by 1e8.
SMALLEST_WEIGHT = 1e-4


def resize(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """[B, C, H, W] -> [B, C, h, w], bilinear, align_corners False; unchanged on the same grid."""
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    return functional.interpolate(maps, list(grid), mode="bilinear")


def fuse_maps(maps: Tensor, fusion: str) -> Tensor:
    """One map S from those of n levels (equation 10): [B, n, h, w], not negative -> [B, 1, h, w].

    ``product`` (the paper), ``one_plus_product`` (1 + product: no pixel is left out), ``sum``.
    Values up to 1e-4 are zero, see `SMALLEST_WEIGHT`.

    Raises:
        ValueError: another fusion, ``separate`` included.
    """
    if fusion not in FUSIONS or fusion == "separate":
        raise ValueError(f"fusion {fusion!r} gives no single map; take one of {FUSIONS[:-1]}")
    if fusion == "sum":
        fused = maps.sum(1, keepdim=True)
    else:
        fused = reduce(torch.mul, maps.split(1, dim=1))
    fused = functional.threshold(fused, SMALLEST_WEIGHT, 0.0)
    return 1.0 + fused if fusion == "one_plus_product" else fused


def weigh_sides(sides: Sequence[Tensor], maps: Tensor) -> list[Tensor]:
    """Multiply each unit side feature [B, D_l, h, w] by its channel of ``maps`` [B, levels, h, w].

    The side features must be normalised already; before normalisation the product would cancel.

    Raises:
        ValueError: not one map per side feature.
    """
    if len(sides) != maps.shape[1]:
        raise ValueError(f"{len(sides)} side features and maps of {maps.shape[1]} levels; give all")
    return [side * maps[:, i : i + 1] for i, side in enumerate(sides)]


class Attention(nn.Module):
    """Base of all kinds, and the kind ``none``: everything passes unchanged.

    Stage outputs are read detached, as by the side branches: attention learns from the consistency
    alone and sends nothing to the backbone.

    Args:
        levels: numbers of the layers it reads, ascending, out of 1 .. 4.
    """

    def __init__(self, levels: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.levels = levels

    def refine(self, layers: Sequence[Tensor], grid: Sequence[int]) -> tuple[Tensor, ...]:
        """Stage outputs layer1 .. layer4 for the side branches, same shapes.

        They carry no gradient to the backbone; the side branches must not detach them again.
        """
        return tuple(layer.detach() for layer in layers)

    def forward(self, layers: Sequence[Tensor], sides: Sequence[Tensor]) -> list[Tensor]:
        """Weighted side features; ``layers`` are the stage outputs, ``sides`` theirs, in order."""
        return list(sides)

    def weigh(
        self, layers: Sequence[Tensor], features: dict[int, Tensor], grid: Sequence[int]
    ) -> dict[int, Tensor]:
        """Features [B, C, h, w] by the number of their layer, weighed by that layer's map."""
        return features


class MapAttention(Attention):
    """One map per level, fused or not, that multiplies the side features.

    Fused, S multiplies the side features of all layers, also of those that it does not read. With
    ``separate`` each level has its own map and layers without one keep their features.

    Args:
        branches: per level, [B, C_l, H_l, W_l] -> [B, 1, H_l, W_l], not negative.
        fusion: see `fuse_maps`, or ``separate``.
    """

    def __init__(self, levels: tuple[int, ...], branches: Sequence[nn.Module], fusion: str) -> None:
        super().__init__(levels)
        self.branches = nn.ModuleList(branches)
        self.fusion = fusion

    def maps(self, layers: Sequence[Tensor], grid: Sequence[int]) -> Tensor:
        """What multiplies layer1 .. layer4: [B, 4, h, w] in float32, not negative."""
        own = {
            level: resize(branch(layers[level - 1].detach()).float(), grid)
            for level, branch in zip(self.levels, self.branches, strict=True)
        }
        if self.fusion == "separate":
            ones = torch.ones_like(own[self.levels[0]])
            return torch.cat([own.get(i + 1, ones) for i in range(len(layers))], dim=1)
        fused = fuse_maps(torch.cat(list(own.values()), dim=1), self.fusion)
        return fused.expand(-1, len(layers), -1, -1)

    def forward(self, layers: Sequence[Tensor], sides: Sequence[Tensor]) -> list[Tensor]:
        return weigh_sides(sides, self.maps(layers, sides[0].shape[-2:]))

    def weigh(
        self, layers: Sequence[Tensor], features: dict[int, Tensor], grid: Sequence[int]
    ) -> dict[int, Tensor]:
        maps = self.maps(layers, grid)
        return {n: feature * maps[:, n - 1 : n] for n, feature in features.items()}


class PooledMap(nn.Module):
    """Sigmoid of a 7x7 convolution over mean and maximum of the channels (CBAM, equation 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, layer: Tensor) -> Tensor:
        pooled = [layer.mean(1, keepdim=True), layer.amax(1, keepdim=True)]
        return torch.sigmoid(self.convolution(torch.cat(pooled, dim=1)))


class SelfAttention(Attention):
    """Non-local self attention of each level, added to it: x + gain * softmax(q k / sqrt(d)) v.

    It is computed on the output grid and its result resized to the level, so that the largest
    tensor is [B, N, N] with N = h w, also for layers on a finer grid. Gains start at zero: training
    begins from the plain features.

    Args:
        widths: channels of the levels. reduction: queries and keys have C / reduction channels.
    """

    def __init__(self, levels: tuple[int, ...], widths: Sequence[int], reduction: int) -> None:
        super().__init__(levels)
        narrow = [max(1, width // reduction) for width in widths]
        pairs = list(zip(widths, narrow, strict=True))
        self.queries = nn.ModuleList(nn.Conv2d(c, d, 1, bias=False) for c, d in pairs)
        self.keys = nn.ModuleList(nn.Conv2d(c, d, 1, bias=False) for c, d in pairs)
        self.values = nn.ModuleList(nn.Conv2d(c, c, 1, bias=False) for c in widths)
        self.gains = nn.Parameter(torch.zeros(len(levels)))

    def refine(self, layers: Sequence[Tensor], grid: Sequence[int]) -> tuple[Tensor, ...]:
        refined = [layer.detach() for layer in layers]
        for i, level in enumerate(self.levels):
            layer = refined[level - 1]
            attended = resize(self.attended(i, resize(layer, grid)), layer.shape[-2:])
            refined[level - 1] = layer + self.gains[i] * attended
        return tuple(refined)

    def attended(self, i: int, layer: Tensor) -> Tensor:
        """Values of all pixels, averaged by similarity of keys: [B, C, h, w] -> [B, C, h, w]."""
        query, key, value = (
            branches[i](layer).flatten(2).transpose(1, 2)  # [B, N, d or C]
            for branches in (self.queries, self.keys, self.values)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)  # [B, N, C]
        return attended.transpose(1, 2).reshape(layer.shape)


def fused_branch(width: int) -> nn.Module:
    """Equation 9: 1x1 convolution to one channel without bias, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(width, 1, 1, bias=False), nn.BatchNorm2d(1), nn.ReLU())


def spatial_branch(width: int) -> nn.Module:
    """1x1 convolution to one channel without bias, sigmoid."""
    return nn.Sequential(nn.Conv2d(width, 1, 1, bias=False), nn.Sigmoid())


def build_attention(
    kind: str,
    widths: Sequence[int],
    levels: tuple[int, ...] = (2, 3, 4),
    *,
    fusion: str = "product",
    reduction: int = 8,
) -> Attention:
    """Attention of ``kind``: ``none``, ``sfa``, ``spatial``, ``pooled`` or ``self``.

    Args:
        widths: channels of the five stage outputs, stem first (`Backbone.widths`).
        levels: numbers of the layers it reads; RPC's table 8 finds 2, 3, 4 the best.
        fusion: of ``sfa`` alone, see `FUSIONS`. reduction: of ``self`` alone.

    Raises:
        ValueError: unknown kind or fusion; levels not ascending out of 1 .. 4.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown attention {kind!r}; known: {', '.join(KINDS)}")
    if fusion not in FUSIONS:
        raise ValueError(f"unknown fusion {fusion!r}; known: {', '.join(FUSIONS)}")
    if kind == "none":
        return Attention()
    if not levels or sorted(set(levels) & {1, 2, 3, 4}) != list(levels):
        raise ValueError(f"attention levels {levels}; set them ascending, out of 1, 2, 3, 4")
    chosen = [widths[level] for level in levels]
    if kind == "self":
        return SelfAttention(levels, chosen, reduction)
    if kind == "sfa":
        return MapAttention(levels, [fused_branch(width) for width in chosen], fusion)
    if kind == "spatial":
        return MapAttention(levels, [spatial_branch(width) for width in chosen], "separate")
    return MapAttention(levels, [PooledMap() for _ in chosen], "separate")
