"""Pixel pairs of the affinity network: which neighbours, and the straight path to each.

In: a radius in grid cells. Out: directions (dy, dx) of the half plane, sorted by dy then dx, and
for each the grid cells that the straight segment from (0, 0) to (dy, dx) crosses.
Source: IRN (Ahn et al., CVPR 2019), section 4.1 and equation 1.

Everything here is integer arithmetic on tiny tuples, cached per radius; no tensor is made.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Literal, NamedTuple

Cell = tuple[int, int]


class Run(NamedTuple):
    """A straight row or column of path cells.

    Attributes:
        start: its first cell (y, x), the one with the smallest coordinates.
        length: number of cells, at least 1.
        axis: ``row`` extends to larger x, ``column`` to larger y.
    """

    start: Cell
    length: int
    axis: Literal["row", "column"]


@cache
def directions(radius: int) -> tuple[Cell, ...]:
    """Every (dy, dx) with dy^2 + dx^2 < radius^2 in the half plane, sorted by dy then dx.

    The half plane is dy > 0 with any dx, and dy = 0 with dx > 0: of two opposite directions one is
    listed. Radius 5 has 34, radius 10 has 152.

    Raises:
        ValueError: a radius under 2, which has no neighbour.
    """
    if radius < 2:
        raise ValueError(f"radius is {radius}: pixel pairs need a radius of at least 2 grid cells")
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in range(1 - radius, radius)
        if dy * dy + dx * dx < radius * radius and (dy > 0 or dx > 0)
    )


@cache
def path_cells(direction: Cell) -> tuple[Cell, ...]:
    """Cells (y, x) of the path from (0, 0) to ``direction``, both ends included, sorted.

    A cell of the bounding box is on the path when its centre is nearer than 1 to the segment:
    (dy x - dx y)^2 < dy^2 + dx^2.
    """
    dy, dx = direction
    return tuple(
        (y, x)
        for y in range(dy + 1)
        for x in range(min(0, dx), max(0, dx) + 1)
        if (dy * x - dx * y) ** 2 < dy * dy + dx * dx
    )


@cache
def path_runs(direction: Cell) -> tuple[Run, ...]:
    """The same cells as straight runs, along the direction's longer side.

    A strip cut by a row (or column) is one interval, so the runs cover the path without overlap.
    There are min(dy, |dx|) + 1 of them where there are up to 22 cells at radius 10.
    """
    dy, dx = direction
    if abs(dx) >= dy:
        rows = groupby(path_cells(direction), key=lambda cell: cell[0])
        return tuple(_run(list(cells), "row") for _, cells in rows)
    columns = groupby(
        sorted(path_cells(direction), key=lambda cell: (cell[1], cell[0])),
        key=lambda cell: cell[1],
    )
    return tuple(_run(list(cells), "column") for _, cells in columns)


def _run(cells: list[Cell], axis: Literal["row", "column"]) -> Run:
    return Run(cells[0], len(cells), axis)
