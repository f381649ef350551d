"""Random walk: localization maps spread along affinities.

In: maps [C, h, w], an edge map [h, w] of probabilities in (0, 1) at stride 4. Out: walked maps.
Source: IRN (Ahn et al., CVPR 2019), section 5.2.

With S the affinities to the power beta (1 on the diagonal) and D its column sums, the walk takes
x to x T^n, T = S D^-1. T is never built: T^n = D^1/2 A^n D^-1/2 with the symmetric
A = D^-1/2 S D^-1/2, one product with A is a stencil of shifted products (68 neighbours at radius
5), and A^n is a Chebyshev expansion of about 6 sqrt(n) products, because x^n = sum over j of
2^(1-n) C(n, (n-j)/2) T_j(x) and those coefficients are a binomial's tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.affinity import padded_affinities
from protoseg.affinity.paths import directions

STRIDE = 4
LARGEST_TRUNCATION = 1e-3


@dataclass(frozen=True)
class WalkSettings:
    """How the walk goes.

    Attributes:
        radius: neighbours nearer than this many grid cells are linked.
        beta: affinities to this power.
        log2_steps: the walk takes 2 to this many steps.
        degree: of the Chebyshev expansion; at or above the number of steps it is exact.
        dtype: torch.float64, or torch.float32: half the time, other
            labels for about 1 pixel in a million.
    """

    radius: int
    beta: float
    log2_steps: int
    degree: int
    dtype: torch.dtype


class Stencil:
    """The symmetric matrices A = D^-1/2 S D^-1/2 of edge maps as shifted products.

    Grids lie in flat rows with margin cells between them, and an apron before and after, so that a
    neighbour is one offset and a product with A is one contiguous multiply-add per neighbour. The
    weights of two opposite neighbours are one array, read at two offsets.
    """

    def __init__(self, edge: Tensor, radius: int, beta: float, dtype: torch.dtype) -> None:
        """Build from edge maps [..., h, w] of probabilities; outside the edge counts as 1."""
        *images, self.height, self.width = edge.shape
        self.margin = radius - 1
        self.row = self.width + self.margin
        self.apron = self.margin * self.row + self.margin
        self.shifts = [dy * self.row + dx for dy, dx in directions(radius)]
        single = edge.to(dtype).reshape(-1, 1, self.height, self.width)
        affinities = padded_affinities(single, radius).pow_(beta)
        flat = self.flatten(affinities).transpose(0, 1).contiguous()
        weights = flat.view(len(self.shifts), *images, -1)  # [D, ..., flat]
        # in double: an error of the degrees is one of the largest eigenvalue, which steps amplify
        degree = torch.ones_like(self._shifted(weights[0], 0), dtype=torch.float64)
        for weight, shift in zip(weights, self.shifts, strict=True):
            degree += self._shifted(weight, 0)
            degree += self._shifted(weight, -shift)
        scale = functional.pad(degree.rsqrt(), (self.apron, self.apron))
        self.weights = [1.0 / degree[..., None, :].to(dtype)]  # as `neighbours`, [..., 1, h * row]
        for weight, shift in zip(weights[..., None, :], self.shifts, strict=True):
            forward = self._shifted(weight, 0)
            forward *= (self._shifted(scale, 0) * self._shifted(scale, shift))[..., None, :]
            self.weights += [forward, self._shifted(weight, -shift)]
        self.degree = self._grid(degree).to(dtype)  # [..., h, w], sums of S

    def flatten(self, maps: Tensor) -> Tensor:
        """Maps [..., C, h, w] in the flat layout, [..., C, flat], zero in margins and aprons."""
        return functional.pad(
            functional.pad(maps, (0, self.margin)).flatten(-2), (self.apron, self.apron)
        )

    def unflatten(self, flat: Tensor) -> Tensor:
        """Inverse of `flatten`."""
        return self._grid(self.cells(flat))

    def cells(self, flat: Tensor) -> Tensor:
        """The cells of flat maps without the aprons, a view [..., C, h * row]."""
        return self._shifted(flat, 0)

    def neighbours(self, flat: Tensor) -> list[Tensor]:
        """Views [..., C, h * row] of flat maps: the cells, then all neighbours, in fixed order."""
        views = [self.cells(flat)]
        for shift in self.shifts:
            views += [self._shifted(flat, shift), self._shifted(flat, -shift)]
        return views

    def add_product(self, out: Tensor, neighbours: list[Tensor], scale: float) -> None:
        """out += scale * (x A), in place on the cells [..., C, h * row], from neighbours of x."""
        for neighbour, weight in zip(neighbours, self.weights, strict=True):
            out.addcmul_(neighbour, weight, value=scale)

    def _grid(self, cells: Tensor) -> Tensor:
        return cells.unflatten(-1, (self.height, self.row))[..., : self.width]

    def _shifted(self, flat: Tensor, offset: int) -> Tensor:
        return flat.narrow(-1, self.apron + offset, self.height * self.row)


def chebyshev_coefficients(steps: int, degree: int) -> list[float]:
    """Coefficients of T_0 .. T_min(degree, steps) in x^steps, each rounded once.

    Raises:
        ValueError: a degree that leaves out more than 1e-3 of x^steps.
    """
    half = [
        math.comb(steps, (steps - j) // 2) / (1 << steps) if (steps - j) % 2 == 0 else 0.0
        for j in range(min(degree, steps) + 1)
    ]
    coefficients = [half[0], *(2.0 * value for value in half[1:])]
    missing = 1.0 - math.fsum(coefficients)
    if missing > LARGEST_TRUNCATION:
        raise ValueError(
            f"a Chebyshev degree of {degree} leaves out {missing:.1e} of a walk of {steps} steps; "
            f"set the degree to {math.ceil(6 * math.sqrt(steps))}"
        )
    return coefficients


def chebyshev_power(stencil: Stencil, flat: Tensor, steps: int, degree: int) -> Tensor:
    """flat A^steps by the recurrence T_{j+1} = 2 A T_j - T_{j-1}; flat layout in and out."""
    coefficients = chebyshev_coefficients(steps, degree)
    total = coefficients[0] * flat
    # views are made once: at this size making one takes half as long as the product of its cells
    starts = (flat.clone(), torch.zeros_like(flat))
    previous, current = (stencil.neighbours(start) for start in starts)
    stencil.add_product(current[0], previous, 1.0)
    for number, coefficient in enumerate(coefficients[1:], 1):
        if number > 1:
            stencil.add_product(previous[0].neg_(), current, 2.0)
            previous, current = current, previous
        if coefficient:
            stencil.cells(total).add_(current[0], alpha=coefficient)
    return total


def stepwise_power(stencil: Stencil, flat: Tensor, steps: int) -> Tensor:
    """flat A^steps, one product a step: what the expansion is compared with."""
    current = flat
    for _ in range(steps):
        following = torch.zeros_like(current)
        stencil.add_product(stencil.cells(following), stencil.neighbours(current), 1.0)
        current = following
    return current


@torch.no_grad()
def random_walk(maps: Tensor, edge: Tensor, settings: WalkSettings) -> Tensor:
    """Walked maps x T^(2^t) in `settings.dtype`: [..., C, h, w] with edge maps [..., h, w].

    Every walked value is a weighted mean of the map, so a constant map stays as it is.
    Nothing of size [N, N] is built: at radius 5 the memory is that of about 100 maps.
    """
    if maps.shape[-2:] != edge.shape[-2:]:
        raise ValueError(
            f"maps of {tuple(maps.shape[-2:])} and an edge map of {tuple(edge.shape[-2:])} do not "
            "fit: resize the maps to the edge map's grid"
        )
    stencil = Stencil(edge, settings.radius, settings.beta, settings.dtype)
    root = stencil.degree.sqrt().unsqueeze(-3)
    flat = stencil.flatten(maps.to(settings.dtype) * root)
    walked = chebyshev_power(stencil, flat, 2**settings.log2_steps, settings.degree)
    return stencil.unflatten(walked) / root


def walk_together(
    starts: Sequence[Tensor], edges: Sequence[Tensor], settings: WalkSettings
) -> list[Tensor]:
    """`random_walk` of several images at once, maps [C_i, h_i, w_i] with edge maps [h_i, w_i].

    On a GPU a step of one image is shorter than the launch of its kernels. Images are padded to the
    largest grid with edge 1, which no path crosses, so none changes another.
    """
    if len(starts) == 1:
        return [random_walk(starts[0], edges[0], settings)]
    height, width = (max(edge.shape[axis] for edge in edges) for axis in (0, 1))
    maps = starts[0].new_zeros(len(starts), max(map(len, starts)), height, width)
    edge = edges[0].new_ones(len(starts), height, width)
    places = []
    for number, (start, own_edge) in enumerate(zip(starts, edges, strict=True)):
        rows, columns = own_edge.shape
        edge[number, :rows, :columns] = own_edge
        places.append((number, slice(len(start)), slice(rows), slice(columns)))
        maps[places[-1]] = start
    walked = random_walk(maps, edge, settings)
    return [walked[place] for place in places]


def grid_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the stride-4 grid of an image, rounded up."""
    return -(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE)


def edge_probability(logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Edge map [h, w] from the logits [2, 1, h', w'] of an image and its mirror.

    Both are cut to the grid (what lies right and below comes from padding), then the second is
    mirrored back and the sigmoid of their mean taken.
    """
    image, mirror = logits[:, 0, : grid[0], : grid[1]].double()
    return ((image + mirror.flip(-1)) / 2).sigmoid()
