"""Directions and paths against the published program (golden/irn_paths): exact."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import golden_files
from numpy.typing import NDArray

from protoseg.affinity.affinity import source_grid
from protoseg.affinity.paths import directions, path_cells

FILES = golden_files("irn_paths", "*.npz")


def read(file: Path) -> tuple[dict[str, NDArray], list[int]]:
    """The arrays and the radii whose groups are among them."""
    with np.load(file) as archive:
        golden = dict(archive)
    found = (re.fullmatch(r"r(\d+)_directions", name) for name in golden)
    return golden, [int(match[1]) for match in found if match]


@pytest.mark.parametrize("file", FILES)
def test_directions_and_paths(file: Path) -> None:
    golden, radii = read(file)
    assert radii
    for radius in radii:
        found = directions(radius)
        assert np.array_equal(found, golden[f"r{radius}_directions"])
        paths = [path_cells(direction) for direction in found]
        lengths = [len(path) for path in paths]
        assert np.array_equal(lengths, golden[f"r{radius}_cells_per_direction"])
        assert np.array_equal(np.cumsum([0, *lengths]), golden[f"r{radius}_cell_offsets"])
        assert np.array_equal(np.concatenate(paths), golden[f"r{radius}_cells"])


@pytest.mark.parametrize("file", FILES)
def test_published_order_groups_paths_by_length(file: Path) -> None:
    golden, radii = read(file)
    for radius in radii:
        position = golden[f"r{radius}_official_position"]
        lengths = np.array([len(path_cells(direction)) for direction in directions(radius)])
        assert sorted(position) == list(range(len(lengths)))
        assert (np.diff(lengths[np.argsort(position)]) >= 0).all()


@pytest.mark.parametrize("file", FILES)
def test_source_grid(file: Path) -> None:
    golden, radii = read(file)
    for radius in radii:
        assert golden[f"r{radius}_margin"] == radius - 1
        cells = sum(len(path_cells(direction)) for direction in directions(radius))
        for height, width, number, sources, pairs, gathered in golden[f"r{radius}_pair_counts"]:
            rows, columns = source_grid(int(height), int(width), radius)
            assert number == len(directions(radius))
            assert (sources, pairs) == (rows * columns, number * rows * columns)
            assert gathered == cells * rows * columns


@pytest.mark.parametrize("file", FILES)
def test_flat_indices_of_the_small_grid(file: Path) -> None:
    golden, _ = read(file)
    height, width = (int(side) for side in golden["grid_size"])
    radius = int(golden["grid_radius"])
    rows, columns = source_grid(height, width, radius)
    index = np.arange(height * width).reshape(height, width)
    left = radius - 1
    source = index[:rows, left : left + columns].ravel()
    partners = [
        index[dy : dy + rows, left + dx : left + dx + columns].ravel()
        for dy, dx in directions(radius)
    ]
    assert np.array_equal(source, golden["grid_source_index"])
    assert np.array_equal(partners, golden["grid_dest_index"])
