"""The random walk in the published form, and as steps of a sparse matrix.

In: maps [C, h, w] and an edge map [h, w] at stride 4, float32. Out: label maps [H, W]. Source: IRN
(Ahn et al., CVPR 2019), section 5.2. The published program pads the edge map with 1, gathers every
path, makes a sparse matrix of all pairs dense, cuts the padding out, and squares the N x N
transition matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from textbook.affinity_step import PathIndex, gathered_affinities

RADIUS, BETA, LOG2_STEPS = 5, 10.0, 8
BACKGROUND = 0.25


def dense_labels(
    maps: Tensor, edge: Tensor, size: tuple[int, int], classes: Tensor, radius: int = RADIUS
) -> Tensor:
    """Labels [H, W] by the dense matrix; ``classes`` [C + 1], the background first."""
    transition = _transition(_dense_affinities(edge, radius))
    start = (maps * (1 - edge)).flatten(1)
    return _labels(torch.matmul(start, transition).view_as(maps), size, classes)


def csr_labels(
    maps: Tensor, edge: Tensor, size: tuple[int, int], classes: Tensor, radius: int = RADIUS
) -> Tensor:
    """The same by 2^8 products with the transposed transition matrix in CSR form."""
    sparse = _inside(_sparse_affinities(edge, radius), edge, radius)
    values = sparse.values() ** BETA
    degree = torch.zeros(len(sparse)).index_add_(0, sparse.indices()[0], values)
    values = values / degree[sparse.indices()[0]]
    matrix = torch.sparse_coo_tensor(sparse.indices(), values, sparse.shape).coalesce()
    matrix = matrix.to_sparse_csr()
    current = (maps * (1 - edge)).flatten(1).t().contiguous()  # [N, C]
    for _ in range(2**LOG2_STEPS):
        current = matrix @ current
    return _labels(current.t().reshape(maps.shape), size, classes)


def _sparse_affinities(edge: Tensor, radius: int) -> Tensor:
    """Affinities of the padded map in both directions, 1 on the diagonal."""
    padded = functional.pad(edge[None, None], (radius, radius, 0, radius), value=1.0)
    rows, columns = padded.shape[2:]
    index = PathIndex(radius, (rows, columns))
    paths = [torch.from_numpy(indices) for indices in index.paths]
    values = gathered_affinities(padded, paths).flatten()
    source = torch.from_numpy(index.source).expand(index.partner.shape).flatten()
    partner = torch.from_numpy(index.partner).flatten()
    cells = torch.arange(rows * columns)
    indices = torch.stack(
        [torch.cat([source, partner, cells]), torch.cat([partner, source, cells])]
    )
    values = torch.cat([values, values, torch.ones(rows * columns)])
    return torch.sparse_coo_tensor(indices, values, (rows * columns,) * 2)


def _dense_affinities(edge: Tensor, radius: int) -> Tensor:
    """[N, N] of the map, cut out of the padded one."""
    height, width = edge.shape
    rows, columns = height + radius, width + 2 * radius
    dense = _sparse_affinities(edge, radius).to_dense().view(rows, columns, rows, columns)
    inside = slice(radius, -radius)
    return dense[:-radius, inside, :-radius, inside].reshape(height * width, height * width)


def _inside(sparse: Tensor, edge: Tensor, radius: int) -> Tensor:
    """The sparse matrix of the map, cut out of the padded one."""
    number = torch.full(edge.shape, 0)
    number.view(-1).copy_(torch.arange(edge.numel()))
    number = functional.pad(number, (radius, radius, 0, radius), value=-1).flatten()
    sparse = sparse.coalesce()
    indices = number[sparse.indices()]
    kept = (indices >= 0).all(dim=0)
    shape = (edge.numel(), edge.numel())
    return torch.sparse_coo_tensor(indices[:, kept], sparse.values()[kept], shape).coalesce()


def _transition(affinities: Tensor) -> Tensor:
    scaled = torch.pow(affinities, BETA)
    transition = scaled / torch.sum(scaled, dim=0, keepdim=True)
    for _ in range(LOG2_STEPS):
        transition = torch.matmul(transition, transition)
    return transition


def _labels(walked: Tensor, size: tuple[int, int], classes: Tensor) -> Tensor:
    upsampled = functional.interpolate(
        walked[:, None], scale_factor=4, mode="bilinear", align_corners=False
    )[:, 0, : size[0], : size[1]]
    scores = upsampled / torch.max(upsampled)
    scores = functional.pad(scores, (0, 0, 0, 0, 1, 0), value=BACKGROUND)
    return classes[torch.argmax(scores, dim=0)]
