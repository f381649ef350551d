"""Time the random walk in its forms, side by side in one run.

    python benchmarks/random_walk.py [--size 94 125] [--maps 3] [--dense-size 40 50]

Chebyshev expansion (the library's), single steps of the same stencil, single steps of a sparse CSR
matrix, and at a small size the published dense form: build N x N and square it. Every row has the
time, the ratio to the expansion in float64, and the largest difference from single steps in
float64, relative to the maximum. Building the matrix or stencil is part of the time.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow_scripts"))

from protoseg.affinity.affinity import padded_affinities
from protoseg.affinity.paths import directions
from protoseg.affinity.walk import Stencil, WalkSettings, random_walk, stepwise_power

LOG = logging.getLogger("random_walk")
RADIUS, BETA, LOG2_STEPS = 5, 10.0, 8
Walk = Callable[[Tensor, Tensor], Tensor]


def stencil_steps(dtype: torch.dtype) -> Walk:
    """One stencil product a step."""

    def walk(maps: Tensor, edge: Tensor) -> Tensor:
        stencil = Stencil(edge, RADIUS, BETA, dtype)
        root = stencil.degree.sqrt()
        flat = stencil.flatten(maps.to(dtype) * root)
        return stencil.unflatten(stepwise_power(stencil, flat, 2**LOG2_STEPS)) / root

    return walk


def similarity(edge: Tensor, dtype: torch.dtype) -> Tensor:
    """S of an edge map as a sparse [N, N] tensor."""
    height, width = edge.shape
    affinities = padded_affinities(edge[None, None].to(dtype), RADIUS)[0].pow(BETA)
    index = torch.arange(height * width, device=edge.device).view(height, width)
    diagonal = index.flatten()
    rows, columns = [diagonal], [diagonal]
    values = [torch.ones(height * width, dtype=dtype, device=edge.device)]
    for (dy, dx), affinity in zip(directions(RADIUS), affinities, strict=True):
        left, right = max(0, -dx), width - max(0, dx)
        source = index[: height - dy, left:right].flatten()
        partner = index[dy:, left + dx : right + dx].flatten()
        rows += [source, partner]
        columns += [partner, source]
        values += [affinity[: height - dy, left:right].flatten()] * 2
    indices = torch.stack([torch.cat(rows), torch.cat(columns)])
    return torch.sparse_coo_tensor(indices, torch.cat(values), (height * width,) * 2).coalesce()


def csr_steps(dtype: torch.dtype) -> Walk:
    """One product with the CSR matrix D^-1 S, the transpose of T, a step."""

    def walk(maps: Tensor, edge: Tensor) -> Tensor:
        sparse = similarity(edge, dtype)
        degree = torch.sparse.sum(sparse, dim=1).to_dense()
        values = sparse.values() / degree[sparse.indices()[0]]
        transposed = torch.sparse_coo_tensor(sparse.indices(), values, sparse.shape)
        matrix = transposed.coalesce().to_sparse_csr()
        current = maps.to(dtype).flatten(1).t().contiguous()  # [N, C]
        for _ in range(2**LOG2_STEPS):
            current = matrix @ current
        return current.t().reshape(maps.shape)

    return walk


def dense_squares(dtype: torch.dtype) -> Walk:
    """The published form: T as [N, N], squared log2(steps) times."""

    def walk(maps: Tensor, edge: Tensor) -> Tensor:
        dense = similarity(edge, dtype).to_dense()
        transition = dense / dense.sum(dim=0, keepdim=True)
        for _ in range(LOG2_STEPS):
            transition = transition @ transition
        return (maps.to(dtype).flatten(1) @ transition).view_as(maps)

    return walk


def chebyshev(degree: int, dtype: torch.dtype) -> Walk:
    """The library's walk."""
    settings = WalkSettings(RADIUS, BETA, LOG2_STEPS, degree, dtype)
    return lambda maps, edge: random_walk(maps, edge, settings)


def best_seconds(walk: Walk, maps: Tensor, edge: Tensor, repeats: int) -> float:
    """Shortest of some runs, after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        walk(maps, edge)
        if edge.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def compare(size: tuple[int, int], channels: int, dense: bool, device: str, repeats: int) -> None:
    """Time all forms at one grid size and log a table."""
    generator = torch.Generator().manual_seed(0)
    edge = torch.rand(size, generator=generator).pow(4).to(device)
    maps = torch.rand(channels, *size, generator=generator).to(device)
    single, double = torch.float32, torch.float64
    walks: dict[str, Walk] = {
        "Chebyshev 96 float64": chebyshev(96, double),
        "Chebyshev 112 float64": chebyshev(112, double),
        "Chebyshev 80 float32": chebyshev(80, single),
        "stencil steps float64": stencil_steps(double),
        "stencil steps float32": stencil_steps(single),
        "CSR steps float64": csr_steps(double),
        "CSR steps float32": csr_steps(single),
    }
    if dense:
        walks["dense squares float32"] = dense_squares(single)
    exact = stencil_steps(double)(maps, edge)
    LOG.info("%dx%d grid, %d maps, %d steps, %s", *size, channels, 2**LOG2_STEPS, device)
    base = None
    for name, walk in walks.items():
        seconds = best_seconds(walk, maps, edge, repeats)
        base = base or seconds
        error = float((walk(maps, edge) - exact).abs().max() / exact.max())
        LOG.info("  %-24s %9.4f s  x%8.2f  error %.1e", name, seconds, seconds / base, error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(94, 125), help="rows, columns")
    parser.add_argument("--dense-size", type=int, nargs=2, default=(40, 50))
    parser.add_argument("--maps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
    torch.set_num_threads(arguments.threads)
    for size, dense in ((arguments.dense_size, True), (arguments.size, False)):
        compare(tuple(size), arguments.maps, dense, arguments.device, arguments.repeats)


if __name__ == "__main__":
    main()
