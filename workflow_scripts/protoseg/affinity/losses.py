"""Losses of the affinity network: edge logits, labels and displacements -> seven scalars.

Source: IRN (Ahn et al., CVPR 2019), equations 2 to 7, with the published code's epsilons.

Each term is a masked sum over the whole batch divided by the number of its pairs, so a batch that
is spread over ranks must add up sums and counts before it divides. Hence two steps: `pair_sums`
gives this rank's sums and counts (made by `pair_costs`), `affinity_losses` divides; in between the
counts can be summed over ranks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from protoseg.affinity.affinity import labels_on_grid
from protoseg.affinity.pair_costs import EPSILON, PairSums, pair_costs


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
    grid = (edge_logits.shape[2], edge_logits.shape[3])
    field = None if displacement is None else displacement.to(precise.dtype)
    return pair_costs(precise.sigmoid(), labels_on_grid(labels, grid), radius, field)


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
