"""Directions, path cells and runs against the definition and against each other."""

from __future__ import annotations

import math

import pytest

from protoseg.affinity.paths import directions, path_cells, path_runs

RADII = [2, 3, 5, 10]


def distance_to_segment(cell: tuple[int, int], end: tuple[int, int]) -> float:
    """Distance from a cell's centre to the line through (0, 0) and ``end``."""
    return abs(end[0] * cell[1] - end[1] * cell[0]) / math.hypot(*end)


@pytest.mark.parametrize(("radius", "number"), [(5, 34), (10, 152)])
def test_number_of_directions_is_the_published_one(radius: int, number: int) -> None:
    assert len(directions(radius)) == number


@pytest.mark.parametrize("radius", RADII)
def test_directions_and_their_opposites_fill_the_disc(radius: int) -> None:
    found = directions(radius)
    both = {*found, *((-dy, -dx) for dy, dx in found)}
    around = range(-radius, radius + 1)
    disc = {(y, x) for y in around for x in around if 0 < y * y + x * x < radius * radius}
    assert both == disc
    assert len(both) == 2 * len(found)
    assert list(found) == sorted(found)


@pytest.mark.parametrize("radius", RADII)
def test_path_holds_the_cells_nearer_than_one(radius: int) -> None:
    for end in directions(radius):
        cells = path_cells(end)
        rows, columns = range(end[0] + 1), range(min(0, end[1]), max(0, end[1]) + 1)
        near = [(y, x) for y in rows for x in columns if distance_to_segment((y, x), end) < 1]
        assert list(cells) == near
        assert (0, 0) in cells
        assert end in cells


@pytest.mark.parametrize("radius", RADII)
def test_runs_cover_every_path_once(radius: int) -> None:
    for end in directions(radius):
        covered = []
        for (y, x), length, axis in path_runs(end):
            assert 1 <= length <= radius
            step = (0, 1) if axis == "row" else (1, 0)
            covered += [(y + step[0] * k, x + step[1] * k) for k in range(length)]
        assert sorted(covered) == list(path_cells(end))
        assert len(path_runs(end)) == min(end[0], abs(end[1])) + 1


def test_mirrored_directions_have_mirrored_paths() -> None:
    for dy, dx in directions(7):
        if dy > 0:
            mirrored = sorted((y, -x) for y, x in path_cells((dy, -dx)))
            assert mirrored == list(path_cells((dy, dx)))


def test_radius_without_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        directions(1)
