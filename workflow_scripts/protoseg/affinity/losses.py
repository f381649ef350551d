"""Losses of the affinity network: pair masks, affinities and displacements -> seven scalars.

Source: IRN (Ahn et al., CVPR 2019), equations 2 to 7, with the published code's epsilons.

Each term is a masked sum over the whole batch divided by the number of its pairs, so a batch that
is spread over ranks must add up sums and counts before it divides. Hence two steps: `pair_sums`
gives this rank's sums and counts, `affinity_losses` divides; in between the counts can be summed
over ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from protoseg.affinity.affinity import (
    PairMasks,
    labels_on_grid,
    pair_displacement,
    pair_masks,
    path_affinities,
)
from protoseg.affinity.paths import directions

EPSILON = 1e-5


class PairSums(NamedTuple):
    """What one batch, or one rank's part of it, contributes to the losses.

    Attributes:
        costs: [5] (or [3] without displacement), summed over pairs: background, foreground,
            negative, displacement of foreground, displacement of background. Carries gradient.
        counts: [3] int64, number of background, foreground and negative pairs.
    """

    costs: Tensor
    counts: Tensor


def pair_sums(
    edge_logits: Tensor, labels: Tensor, radius: int, displacement: Tensor | None = None
) -> PairSums:
    """Sums and counts of a batch.

    Args:
        edge_logits: [B, 1, h, w], before the sigmoid.
        labels: [B, H, W] integers, 0 background, 255 ignored; sampled at the grid by nearest.
        radius: pairs nearer than this many grid cells take part.
        displacement: [B, 2, h, w] in grid cells, or None to leave its losses out.
    """
    precise = edge_logits.to(torch.promote_types(edge_logits.dtype, torch.float32))
    affinities = path_affinities(precise.sigmoid(), radius)  # [B, D, ch, cw]
    grid = (edge_logits.shape[2], edge_logits.shape[3])
    masks = pair_masks(labels_on_grid(labels, grid), radius)
    costs = _affinity_costs(affinities, masks)
    if displacement is not None:
        costs += _displacement_costs(displacement, masks, radius)
    return PairSums(torch.stack(costs), torch.stack([mask.sum() for mask in masks]))


def add_sums(first: PairSums, second: PairSums) -> PairSums:
    """Sums of two parts of a batch taken together."""
    return PairSums(first.costs + second.costs, first.counts + second.counts)


def affinity_losses(
    sums: PairSums, reduce_counts: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """The loss terms as scalars, `total` the one to minimise.

    background and foreground: mean of -log(a + 1e-5); negative: mean of -log(1 + 1e-5 - a);
    positive = (background + foreground) / 2; displacement_foreground and displacement_background:
    mean absolute error per component; total = (positive + negative) / 2 + (displacement_foreground
    + displacement_background) / 2, the last bracket only where the displacement was given.

    A mean is sum / (count + 1e-5): without a pair of a kind its term is 0.

    Args:
        sums: of this rank's part of the batch.
        reduce_counts: sums the counts [3] over all ranks. Every rank then has its own share of
            the losses, and the shares add up to the loss of the whole batch; where they are
            averaged over ranks, multiply the costs by their number.
    """
    counts = sums.counts if reduce_counts is None else reduce_counts(sums.counts)
    background, foreground, negative = counts.to(sums.costs.dtype).unbind()
    terms = {
        "background": sums.costs[0] / (background + EPSILON),
        "foreground": sums.costs[1] / (foreground + EPSILON),
        "negative": sums.costs[2] / (negative + EPSILON),
    }
    terms["positive"] = (terms["background"] + terms["foreground"]) / 2
    total = (terms["positive"] + terms["negative"]) / 2
    if len(sums.costs) == 5:
        # two components a pair
        terms["displacement_foreground"] = sums.costs[3] / (2 * foreground + EPSILON)
        terms["displacement_background"] = sums.costs[4] / (2 * background + EPSILON)
        total = total + (terms["displacement_foreground"] + terms["displacement_background"]) / 2
    return terms | {"total": total}


def _affinity_costs(affinities: Tensor, masks: PairMasks) -> list[Tensor]:
    """Summed log losses of background, foreground and negative pairs."""
    alike = -(affinities + EPSILON).log()
    different = -(1.0 + EPSILON - affinities).log()
    return [
        (alike * masks.background).sum(),
        (alike * masks.foreground).sum(),
        (different * masks.negative).sum(),
    ]


def _displacement_costs(displacement: Tensor, masks: PairMasks, radius: int) -> list[Tensor]:
    """Summed absolute errors: foreground pairs against the direction, background against 0."""
    field = pair_displacement(displacement, radius)  # [B, 2, D, ch, cw]
    target = torch.tensor(directions(radius), dtype=field.dtype, device=field.device)
    error = (field - target.t()[None, :, :, None, None]).abs()
    return [
        (error * masks.foreground[:, None]).sum(),
        (field.abs() * masks.background[:, None]).sum(),
    ]
