"""What all backbones share: freezing, modes of the norms, gradients; on a tiny network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from protoseg.backbones.base import Backbone, BatchNormMode, deep_strides
from protoseg.backbones.mobilenet import MobileNetV2


def tiny(frozen_stages: int = 2, batch_norm: BatchNormMode = "frozen") -> Backbone:
    torch.manual_seed(0)
    return MobileNetV2(16, frozen_stages, batch_norm, width=0.1)


@pytest.mark.parametrize("frozen_stages", [0, 1, 2, 3, 4])
def test_frozen_stages_carry_no_gradient(frozen_stages: int) -> None:
    backbone = tiny(frozen_stages).train()
    features = backbone(torch.rand(2, 3, 64, 64))
    frozen = frozen_stages + 1 if frozen_stages else 0  # the stem goes with the first layer
    assert [feature.requires_grad for feature in features] == [False] * frozen + [True] * (
        5 - frozen
    )
    if frozen < 5:
        features[-1].sum().backward()
    trained = {id(parameter) for parameter in backbone.trainable_parameters()}
    for number, stage in enumerate(backbone.stage_modules()):
        for parameter in stage.parameters():
            assert (parameter.grad is not None) == (number >= frozen)
            assert (id(parameter) in trained) == (number >= frozen)


@pytest.mark.parametrize(("mode", "expected"), [("frozen", []), ("batch", [3, 4])])
def test_batch_norm_modes(mode: BatchNormMode, expected: list[int]) -> None:
    backbone = tiny(2, mode).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.rand(4, 3, 64, 64))
    for number, stage in enumerate(backbone.stage_modules()):
        norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms
        assert all(norm.training == (number in expected) for norm in norms)
    moved = [key for key, value in backbone.state_dict().items() if not value.equal(before[key])]
    assert bool(moved) == bool(expected)
    assert all("running" in key or "num_batches" in key for key in moved)
    assert not any(module.training for module in backbone.eval().modules())


def test_affine_parameters_of_frozen_norms_still_train() -> None:
    backbone = tiny(2, "frozen").train()
    backbone(torch.rand(2, 3, 64, 64))[-1].sum().backward()
    norm = next(m for m in backbone.stage_modules()[3].modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.weight.grad is not None


def test_gradients_stay_off_where_they_were_off() -> None:
    with torch.no_grad():
        assert not any(f.requires_grad for f in tiny(0)(torch.rand(1, 3, 32, 32)))


def test_deep_strides() -> None:
    assert [deep_strides(stride) for stride in (8, 16, 32)] == [(8, 8), (16, 16), (16, 32)]
    with pytest.raises(ValueError, match="output_stride 12 is not offered"):
        deep_strides(12)
