"""Pixel-adaptive refinement against the published code (golden/pamr)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from golden_case import close
from torch import Tensor

from protoseg.localization.pamr import (
    DILATIONS,
    ITERATIONS,
    local_deviation,
    neighbour_weights,
    pamr,
)

FILES = golden_files("pamr", "*.npz")


def read(file: Path) -> dict[str, Tensor]:
    with np.load(file) as arrays:
        return {
            name: torch.from_numpy(arrays[name])
            for name in arrays.files
            if arrays[name].dtype.kind == "f"
        }


def dilations_of(digits: str) -> tuple[int, ...]:
    """`12` in a name stands for dilations 1 and 2."""
    return tuple(int(digit) for digit in digits)


def parameters_of(variant: str) -> tuple[tuple[int, ...], int]:
    """Dilations and iterations of `default`, or of names such as `d12_i1`."""
    if variant == "default":
        return DILATIONS, ITERATIONS
    found = re.fullmatch(r"d(\d+)_i(\d+)", variant)
    assert found, variant
    return dilations_of(found[1]), int(found[2])


@pytest.mark.parametrize("file", FILES)
def test_refined_masks(file: Path) -> None:
    golden = read(file)
    names = [name for name in golden if name.startswith("refined_")]
    assert names
    for name in names:
        found = re.fullmatch(r"refined_(mask.+?)_(default|d\d+_i\d+)", name)
        assert found, name
        mask = golden[found[1]]
        refined = pamr(golden["image"][: len(mask)], mask, *parameters_of(found[2]))
        close(refined, golden[name], atol=1e-5)


@pytest.mark.parametrize("file", FILES)
def test_weights_and_deviations(file: Path) -> None:
    golden = read(file)
    image = golden["image"][:1]
    for name, expected in golden.items():
        if found := re.fullmatch(r"(affinity|local_std)_d(\d+)", name):
            measure = neighbour_weights if found[1] == "affinity" else local_deviation
            close(measure(image, dilations_of(found[2]))[0], expected, atol=2e-6)
    weights = neighbour_weights(image)
    assert torch.isfinite(weights).all()
    close(weights.sum(1), torch.ones_like(weights[:, 0]))


@pytest.mark.parametrize("file", golden_files("pamr", "*flat*.npz"))
def test_weights_are_uniform_where_the_image_is_flat(file: Path) -> None:
    image = read(file)["image"]
    flat = (local_deviation(image) == 0).all(dim=1)
    assert flat.any()
    weights = neighbour_weights(image).movedim(1, -1)[flat]
    close(weights, torch.full_like(weights, 1 / weights.shape[1]))
