"""Affinities, pair labels, losses and gradients against golden/irn_affinity."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from numpy.typing import NDArray
from torch import Tensor

from protoseg.affinity.affinity import (
    labels_on_grid,
    padded_affinities,
    pair_displacement,
    pair_masks,
    path_affinities,
)
from protoseg.affinity.losses import affinity_losses, pair_sums

FILES = golden_files("irn_affinity", "*.npz")
NAMES = (
    "background",
    "foreground",
    "negative",
    "displacement_foreground",
    "displacement_background",
    "positive",
    "total",
)
Golden = dict[str, NDArray]


def read(file: Path) -> tuple[Golden, list[int]]:
    """The arrays and the radii of their groups."""
    with np.load(file) as archive:
        golden = dict(archive)
    found = (re.fullmatch(r"r(\d+)_affinity", name) for name in golden)
    return golden, [int(match[1]) for match in found if match]


def inputs(golden: Golden, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Edge logits and displacement as leaves that want gradients, full-size labels."""
    logits, field = (
        torch.from_numpy(golden[name]).to(dtype).requires_grad_()
        for name in ("edge_logit", "displacement")
    )
    return logits, field, torch.from_numpy(golden["label_full"]).long()


def close(found: Tensor, expected: NDArray, rtol: float, atol: float) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=rtol, atol=atol)


def loss_vector(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([losses[name] for name in NAMES])


@pytest.mark.parametrize("file", FILES)
def test_affinities(file: Path) -> None:
    golden, radii = read(file)
    assert radii
    edge = torch.from_numpy(golden["edge_logit"]).sigmoid()
    for radius in radii:
        affinities = path_affinities(edge, radius)
        close(affinities[0], golden[f"r{radius}_affinity"], rtol=0, atol=1e-6)
        precise = path_affinities(torch.from_numpy(golden["edge_logit"]).double().sigmoid(), radius)
        cells = precise[0, 0].numel()
        close(precise.sum((2, 3)), golden[f"r{radius}_affinity_sum"], rtol=0, atol=1e-6 * cells)


@pytest.mark.parametrize("file", FILES)
def test_padded_affinities(file: Path) -> None:
    golden, radii = read(file)
    edge = torch.from_numpy(golden["edge_logit"][:1]).sigmoid()
    for radius in radii:
        if f"r{radius}_padded_affinity" in golden:
            # the published padding is one cell wider on three sides: sources outside the map
            affinities = torch.nn.functional.pad(padded_affinities(edge, radius)[0], (1, 1, 0, 1))
            close(affinities, golden[f"r{radius}_padded_affinity"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("file", FILES)
def test_pair_labels(file: Path) -> None:
    golden, radii = read(file)
    grid = golden["label_quarter"].shape[1:]
    labels = labels_on_grid(torch.from_numpy(golden["label_full"]), (int(grid[0]), int(grid[1])))
    assert np.array_equal(labels, golden["label_quarter"])
    for radius in radii:
        masks = pair_masks(labels, radius)
        for name, mask in zip(("bg_pos", "fg_pos", "neg"), masks, strict=True):
            assert mask.shape == tuple(golden[f"r{radius}_label_shape"])
            packed = np.packbits(mask.numpy())
            assert np.array_equal(packed, golden[f"r{radius}_label_{name}_packed"])
        counts = torch.stack([mask.sum((1, 2, 3)) for mask in masks], dim=1)
        assert np.array_equal(counts, golden[f"r{radius}_label_counts"])


@pytest.mark.parametrize("file", FILES)
def test_pair_displacements(file: Path) -> None:
    golden, radii = read(file)
    field = torch.from_numpy(golden["displacement"])
    for radius in radii:
        # differences in single precision, sums in double, as the file has them
        pairs = pair_displacement(field, radius).double()
        prefix = f"r{radius}_pair_displacement"
        close(pairs.sum((3, 4)), golden[f"{prefix}_sum"], rtol=1e-9, atol=1e-9)
        close(pairs.abs().sum((3, 4)), golden[f"{prefix}_abs_sum"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("suffix", "dtype", "loss_rtol", "grad_rtol", "grad_atol"),
    [("f64", torch.float64, 1e-9, 1e-8, 1e-12), ("f32", torch.float32, 1e-5, 0.0, 2e-7)],
    ids=["float64", "float32"],
)
def test_losses_and_gradients(
    file: Path,
    suffix: str,
    dtype: torch.dtype,
    loss_rtol: float,
    grad_rtol: float,
    grad_atol: float,
) -> None:
    golden, radii = read(file)
    for radius in radii:
        logits, field, labels = inputs(golden, dtype)
        losses = affinity_losses(pair_sums(logits, labels, radius, field))
        close(loss_vector(losses), golden[f"r{radius}_losses_{suffix}"], rtol=loss_rtol, atol=0)
        gradients = torch.autograd.grad(losses["total"], [logits, field])
        for name, found in zip(("edge_logit", "displacement"), gradients, strict=True):
            close(found, golden[f"r{radius}_grad_{name}_{suffix}"], grad_rtol, grad_atol)
        if suffix == "f64":
            edge = logits.detach().sigmoid()
            through_sigmoid = gradients[0] / (edge * (1 - edge))
            expected = golden[f"r{radius}_grad_edge_prob_f64"]
            close(through_sigmoid, expected, rtol=grad_rtol, atol=grad_atol)


def corner_labels(golden: Golden) -> dict[str, Tensor]:
    """The label maps of the corner cases by name."""
    labels = torch.from_numpy(golden["label_full"]).long()
    return {
        "all_background": torch.zeros_like(labels),
        "all_one_class": torch.full_like(labels, 7),
        "all_ignore": torch.full_like(labels, 255),
        "no_background": labels.masked_fill(labels == 0, 255),
    }


@pytest.mark.parametrize("file", FILES)
def test_corner_cases(file: Path) -> None:
    golden, radii = read(file)
    logits, field, _ = inputs(golden, torch.float64)
    for radius in radii:
        if f"r{radius}_corner_case_names" not in golden:
            continue
        expected = golden[f"r{radius}_corner_case_losses_f64"]
        for name, row in zip(golden[f"r{radius}_corner_case_names"], expected, strict=True):
            sums = pair_sums(logits, corner_labels(golden)[str(name)], radius, field)
            close(loss_vector(affinity_losses(sums)), row, rtol=1e-9, atol=1e-12)
