"""Cross-image region prototypes (RPNet): what in an image looks like a region of either of a pair.

In: backbone layers of B = 2P images, the images of pair i at rows 2i and 2i + 1. Out: a foreground
map FM [B, 1, h, w] and the attention map made of it, by which features are enhanced. The steps:

    levels, compared, last = branch(layers, attention)
    mask = region_mask(compared, alpha)
    masks = [region_masks(mask, beta, draw, kind) for _ in levels]
    prototypes = [region_prototypes(*pair) for pair in zip(levels, masks)]
    foreground = foreground_map(levels, prototypes, compared, reading, images)
    enhanced = attention_map(foreground, factor, gaussian) * last

Source: RPNet (arXiv 2108.07413) and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.localization.attention import Attention, resize
from protoseg.localization.cam import normalize_by_maximum
from protoseg.localization.nonlocal_block import NonLocalBlock
from protoseg.localization.prototypes import NORM_FLOOR, seed_prototypes

GAUSSIAN_SIZE, GAUSSIAN_SIGMA = 5, 3.0  # pixels of the grid; paper and code


class PairFeatures(NamedTuple):
    """What prototypes over pairs are made of and compared with, on the last block's grid.

    levels: [B, C, h, w] each, the layers that give prototypes. compared: [B, C, h, w], the last
    block that all prototypes meet. Both are weighed by the attention, where there is one.
    last: [B, C, h, w], the plain last block, which the classifier reads.
    """

    levels: tuple[Tensor, ...]
    compared: Tensor
    last: Tensor


class PairBranch(nn.Module):
    """The layers that give prototypes, and the last block, by 1x1 convolutions without bias.

    Args:
        widths: channels of the backbone's layers, layer1 first.
        levels: which of them give prototypes, from 1 (paper: 2 and 4).
        width: channels of the projected last block (paper 256, code 512).
        reading: ``pooled`` projects every level, since all prototypes meet the last block;
            ``per_level`` leaves the others as they are.
        mixing: non-local block before the classifier: ``none``, or see `NonLocalBlock`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        levels: Sequence[int],
        width: int,
        reading: str,
        mixing: str = "none",
    ) -> None:
        super().__init__()
        self.levels, self.width = tuple(levels), width
        self.last = nn.Conv2d(widths[-1], width, 1, bias=False)
        projected = set(levels) - {len(widths)} if reading == "pooled" else set()
        self.others = nn.ModuleDict(
            {str(n): nn.Conv2d(widths[n - 1], width, 1, bias=False) for n in sorted(projected)}
        )
        self.mixed = nn.Identity() if mixing == "none" else NonLocalBlock(width, mixing)

    def forward(self, layers: Sequence[Tensor], attention: Attention) -> PairFeatures:
        """Features of the levels at the last block's grid (bilinear), in float32.

        Level ``len(layers)`` is the projected last block itself.
        """
        last = self.last(layers[-1])
        grid = last.shape[-2:]
        found = {len(layers): last}
        for number in self.levels:
            if number < len(layers):
                level = layers[number - 1]
                projected = self.others[str(number)](level) if str(number) in self.others else level
                found[number] = resize(projected, grid)
        numbers = [*self.levels, len(layers)]
        weighed = attention.weigh(layers, {n: found[n].float() for n in set(numbers)}, grid)
        return PairFeatures(
            tuple(weighed[n] for n in self.levels), weighed[len(layers)], last.float()
        )


def region_mask(feature: Tensor, alpha: float) -> Tensor:
    """Pixels that any channel of [B, C, h, w] marks: [B, 1, h, w] of 0 and 1 (1 is region).

    A channel marks x / (its spatial maximum + 1e-5) >= alpha. No label is read, no gradient sent.
    A channel that is negative everywhere marks every pixel, as in the published code; hand over
    the ReLU of a signed feature for masks of active pixels only.
    """
    return (normalize_by_maximum(feature) >= alpha).any(1, keepdim=True).to(feature)


def dropped_mask(mask: Tensor, beta: float, draw: Tensor | torch.Generator) -> Tensor:
    """The mask [B, R, h, w] without a random part: each pixel falls out with probability beta.

    Args:
        draw: uniform numbers in [0, 1) of the mask's shape, of which those below beta drop, or the
            generator that draws them on its own device.
    """
    if isinstance(draw, torch.Generator):
        draw = torch.rand(mask.shape, generator=draw, device=draw.device)
    return mask * (draw.to(mask.device) >= beta)


def region_masks(mask: Tensor, beta: float, draw: Tensor | torch.Generator, kind: str) -> Tensor:
    """Masks of the prototypes, [B, R, h, w] -> [B, R, h, w], or [B, 2R, h, w] for ``both``.

    Args:
        kind: ``full``, ``dropped`` (paper) or ``both``, full ones first (code).

    Raises:
        ValueError: another kind.
    """
    if kind == "full":
        return mask
    dropped = dropped_mask(mask, beta, draw)
    if kind == "dropped":
        return dropped
    if kind == "both":
        return torch.cat([mask, dropped], dim=1)
    raise ValueError(f"unknown kind of region masks {kind!r}; known: full, dropped, both")


def region_prototypes(feature: Tensor, masks: Tensor) -> Tensor:
    """Mean of [B, C, h, w] over each of R masks [B, R, h, w]: [B, R, C]; zero for an empty mask."""
    return seed_prototypes(feature, masks.to(feature))


def swap_pairs(batch: Tensor) -> Tensor:
    """Each image's row replaced by its partner's: rows 2i and 2i + 1 of [2P, ...] exchanged."""
    if len(batch) % 2:
        raise ValueError(f"a batch of {len(batch)} images holds no pairs; its length must be even")
    return batch.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def best_cosine(feature: Tensor, prototypes: Tensor) -> Tensor:
    """Largest cosine of each pixel with R prototypes [B, R, C]: [B, 1, h, w] in [-1, 1].

    A zero prototype or pixel has cosine 0.
    """
    batch, _, height, width = feature.shape
    vectors = functional.normalize(feature.flatten(2), dim=1, eps=NORM_FLOOR)  # [B, C, N]
    directions = functional.normalize(prototypes, dim=2, eps=NORM_FLOOR)  # [B, R, C]
    return (directions @ vectors).amax(1).view(batch, 1, height, width)


def foreground_map(
    levels: Sequence[Tensor],
    prototypes: Sequence[Tensor],
    last: Tensor,
    reading: str,
    images: str,
) -> Tensor:
    """FM: the largest cosine of each pixel with any prototype, [B, 1, h, w] in [-1, 1].

    Args:
        levels: [B, C, h, w] each, at one grid. prototypes: of each level, [B, R, C].
        last: [B, C, h, w] last block; read by ``pooled`` alone, C that of every level.
        reading: ``pooled`` compares every prototype with the last block (paper); ``per_level``
            each level's prototypes with that level (code).
        images: ``two`` takes the partner's prototypes too, ``one`` the image's own (table VII).

    Raises:
        ValueError: another reading or number of images; an odd batch for ``two``.
    """
    if images not in ("one", "two"):
        raise ValueError(f"unknown images {images!r} for prototypes; known: one, two")
    if images == "two":
        prototypes = [torch.cat([own, swap_pairs(own)], dim=1) for own in prototypes]
    if reading == "pooled":
        return best_cosine(last, torch.cat(list(prototypes), dim=1))
    if reading == "per_level":
        matched = zip(levels, prototypes, strict=True)
        return torch.cat([best_cosine(*pair) for pair in matched], dim=1).amax(1, keepdim=True)
    raise ValueError(f"unknown reading {reading!r} of the prototypes; known: pooled, per_level")


def gaussian_smooth(maps: Tensor) -> Tensor:
    """5x5 Gaussian of sigma 3 and sum 1 over [B, 1, h, w]; outside the grid is 0 (code)."""
    half = GAUSSIAN_SIZE // 2
    distance = torch.arange(-half, half + 1, dtype=maps.dtype, device=maps.device)
    profile = torch.exp(-0.5 * (distance / GAUSSIAN_SIGMA) ** 2)
    profile = profile / profile.sum()
    return functional.conv2d(maps, torch.outer(profile, profile)[None, None], padding=half)


def attention_map(foreground: Tensor, factor: float, gaussian: bool) -> Tensor:
    """Factors for the features, [B, 1, h, w] up to ``factor``: FM / (its maximum + 1e-5).

    Args:
        foreground: FM [B, 1, h, w]. factor: 1 in the paper, 1.3 in the code.
        gaussian: smooth afterwards (table VI).
    """
    attention = normalize_by_maximum(foreground) * factor
    return gaussian_smooth(attention) if gaussian else attention
