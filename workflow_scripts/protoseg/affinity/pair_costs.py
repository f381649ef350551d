"""Costs of pixel pairs summed over a batch, with a backward pass that keeps no pair in memory.

In: edge probabilities [B, 1, h, w], labels [B, h, w] on the same grid, a displacement [B, 2, h, w]
or None. Out: sums of the costs and numbers of pairs, for `losses.affinity_losses`.
Source: IRN (Ahn et al., CVPR 2019), equations 1 to 7, with the published code's epsilons.

A crop of 512 has 2 million pairs. Left to autograd, every step on them would be stored until the
backward pass. Here a few directions at a time are computed, summed and forgotten, and the backward
pass computes them again: memory is that of some fields [B, h, w], whatever the radius.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from protoseg.affinity.affinity import (
    RunMaxima,
    pair_displacement,
    pair_masks,
    path_maxima,
    path_views,
    run_maxima,
    source_grid,
)
from protoseg.affinity.paths import Cell, directions

EPSILON = 1e-5
# more at once leave the processor's cache, fewer start more kernels on a GPU
DIRECTIONS_AT_ONCE = 8


class PairSums(NamedTuple):
    """What one batch, or one rank's part of it, contributes to the losses.

    Attributes:
        costs: [5] (or [3] without displacement), summed over pairs: background, foreground,
            negative, displacement of foreground, displacement of background. Carries gradient.
        counts: [3] int64, number of background, foreground and negative pairs.
    """

    costs: Tensor
    counts: Tensor


def pair_costs(
    edge: Tensor, labels: Tensor, radius: int, displacement: Tensor | None = None
) -> PairSums:
    """Sums and counts of a batch; differentiable once.

    Where cells of a path tie for the maximum, the first of them takes the gradient.

    Args:
        edge: [B, 1, h, w] in [0, 1], float32 or float64.
        labels: [B, h, w] integers, 0 background, 255 ignored.
        radius: pairs nearer than this many grid cells take part.
        displacement: [B, 2, h, w] in grid cells, of the edge's dtype, or None.
    """
    return PairSums(*_PairCosts.apply(edge, displacement, labels, radius))


class _PairCosts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, edge: Tensor, displacement: Tensor | None, labels: Tensor, radius: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(edge, displacement, labels)
        ctx.radius = radius
        runs, labels = run_maxima(edge, radius), labels.to(edge.dtype)
        costs = edge.new_zeros(3 if displacement is None else 5)
        counts = torch.zeros(3, dtype=torch.int64, device=edge.device)
        for ends, steps in _parts(edge, radius):
            masks = pair_masks(labels, radius, ends)
            counts += torch.stack([_number(mask) for mask in masks])
            logs = _arguments(path_maxima(runs, radius, ends), masks.negative).log_()
            costs[:3] -= torch.stack([(mask * logs).sum() for mask in masks])
            if displacement is not None:
                errors = _errors(displacement, masks.foreground, radius, ends, steps)
                lengths = errors.abs_().sum(dim=1)
                kinds = (masks.foreground, masks.background)
                costs[3:] += torch.stack([(mask * lengths).sum() for mask in kinds])
        ctx.mark_non_differentiable(counts)
        return costs, counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        edge, displacement, labels = ctx.saved_tensors
        radius, weights = ctx.radius, gradients[0].unbind()
        runs, labels = run_maxima(edge, radius), labels.to(edge.dtype)
        run_slopes = RunMaxima(*([torch.zeros_like(run) for run in axis] for axis in runs))
        field_slope = None if displacement is None else torch.zeros_like(displacement)
        for ends, steps in _parts(edge, radius):
            masks = pair_masks(labels, radius, ends)
            background, foreground, negative = masks
            maxima = path_maxima(runs, radius, ends)
            slope = (background * weights[0]).addcmul_(foreground, weights[1])
            slope.addcmul_(negative, weights[2], value=-1).div_(_arguments(maxima, negative))
            _add_path_slopes(run_slopes, runs, maxima, slope, ends, radius)
            if field_slope is not None:
                sign = _errors(displacement, foreground, radius, ends, steps).sign_()
                weight = (foreground * weights[3]).addcmul_(background, weights[4])
                _add_partner_slopes(field_slope, sign.mul_(weight[:, None]), ends, radius)
        return _edge_slope(run_slopes, runs), field_slope, None, None


def _parts(edge: Tensor, radius: int) -> Iterator[tuple[tuple[Cell, ...], Tensor]]:
    """Some directions at a time, as cells and as a tensor [D, 2]; all go to the device at once."""
    ends = directions(radius)
    for part, steps in enumerate(edge.new_tensor(ends).split(DIRECTIONS_AT_ONCE)):
        yield ends[part * DIRECTIONS_AT_ONCE :][: len(steps)], steps


def _number(mask: Tensor) -> Tensor:
    # floating-point sums of one image and direction are exact, those of a batch may not be
    return mask.sum(dim=(2, 3)).long().sum()


def _arguments(maxima: Tensor, negative: Tensor) -> Tensor:
    """Of the logarithms [B, D, ch, cw]: a + 1e-5 of the affinity a, 1 + 1e-5 - a of negatives."""
    affinities = 1.0 - maxima
    return torch.lerp(affinities + EPSILON, 1.0 + EPSILON - affinities, negative)


def _errors(
    displacement: Tensor, foreground: Tensor, radius: int, ends: tuple[Cell, ...], steps: Tensor
) -> Tensor:
    """Pair displacement minus its target [B, 2, D, ch, cw]: the direction inside objects, or 0."""
    errors = pair_displacement(displacement, radius, ends)
    return errors.addcmul_(foreground[:, None], steps.t()[:, :, None, None], value=-1)


def _add_path_slopes(
    slopes: RunMaxima,
    runs: RunMaxima,
    maxima: Tensor,
    slope: Tensor,
    ends: tuple[Cell, ...],
    radius: int,
) -> None:
    """Add the slope [B, D, ch, cw] at every path's maximum to that of the first run that has it."""
    hit = torch.empty_like(slope[:, 0])
    for end, maximum, left in zip(ends, maxima.unbind(1), slope.unbind(1), strict=True):
        places = path_views(slopes, radius, end)
        for run, place in zip(path_views(runs, radius, end), places, strict=True):
            torch.eq(run, maximum, out=hit)  # 0 and 1 in floating point
            place.addcmul_(hit, left)
            left.addcmul_(hit, left, value=-1)


def _add_partner_slopes(field: Tensor, slope: Tensor, ends: tuple[Cell, ...], radius: int) -> None:
    """Add the slope [B, 2, D, ch, cw] at source minus partner to that of the field."""
    margin = radius - 1
    height, width = source_grid(field.shape[2], field.shape[3], radius)
    field[:, :, :height, margin : margin + width] += slope.sum(dim=2)
    for (dy, dx), part in zip(ends, slope.unbind(2), strict=True):
        left = margin + dx
        field[:, :, dy : dy + height, left : left + width] -= part


def _edge_slope(slopes: RunMaxima, runs: RunMaxima) -> Tensor:
    """From the slopes of all run maxima to that of the edge map [B, 1, H, W]; uses them up."""
    total = torch.zeros_like(runs.rows[0])
    for axis, maxima, given in ((2, runs.rows, slopes.rows), (1, runs.columns, slopes.columns)):
        for length in range(len(maxima) - 1, 0, -1):
            size = maxima[length].shape[axis]
            shorter = maxima[length - 1].narrow(axis, 0, size) == maxima[length]
            kept = given[length] * shorter
            given[length - 1].narrow(axis, 0, size).add_(kept)
            total.narrow(axis, length, size).add_(given[length] - kept)
        total += given[0]
    return total[:, None]
