"""Stages, strides, freezing and key names of the backbones; shapes on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from protoseg.backbones.backbone import (
    BACKBONES,
    Backbone,
    BatchNormMode,
    MobileNetV2,
    ResNet,
    build_backbone,
)

BUILDERS: dict[str, Callable[..., Any]] = {
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "resnet101": models.resnet101,
    "mobilenet_v2": models.mobilenet_v2,
}
WIDTHS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnet101": (64, 256, 512, 1024, 2048),
    "mobilenet_v2": (16, 24, 32, 96, 1280),
}
STRIDES = {
    ("resnet18", 16): (4, 4, 8, 16, 16),
    ("resnet50", 16): (4, 4, 8, 16, 16),
    ("resnet50", 8): (4, 4, 8, 8, 8),
    ("resnet101", 8): (4, 4, 8, 8, 8),
    ("mobilenet_v2", 16): (2, 4, 8, 16, 16),
    ("mobilenet_v2", 8): (2, 4, 8, 8, 8),
}


def tiny(frozen_stages: int = 2, batch_norm: BatchNormMode = "frozen") -> Backbone:
    torch.manual_seed(0)
    return MobileNetV2(16, frozen_stages, batch_norm, width=0.1)


@pytest.mark.parametrize(("name", "output_stride"), STRIDES)
def test_widths_and_strides(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, "random", output_stride=output_stride)
        features = backbone(torch.rand(2, 3, 128, 192))
    strides = STRIDES[name, output_stride]
    assert backbone.strides == strides
    assert backbone.widths == WIDTHS[name]
    # DeepLabV2's pooling rounds up, 64 -> 33, in ResNets at output stride 8.
    extra = int(name.startswith("resnet") and output_stride == 8)
    grids = [
        (2, w, 128 // s + extra, 192 // s + extra)
        for w, s in zip(backbone.widths, strides, strict=True)
    ]
    assert [feature.shape for feature in features] == grids


@pytest.mark.parametrize("name", BACKBONES)
def test_keys_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        own = build_backbone(name, "random").state_dict()
        expected = BUILDERS[name](weights=None).state_dict()
    heads = ("fc.", "classifier.")
    shapes = {k: v.shape for k, v in expected.items() if not k.startswith(heads)}
    assert {key: value.shape for key, value in own.items()} == shapes


def test_output_stride_32_is_torchvision_unchanged() -> None:
    torch.manual_seed(0)
    reference = models.mobilenet_v2(weights=None, width_mult=0.1).eval()
    backbone = MobileNetV2(32, 0, "batch", width=0.1).eval()
    backbone.features.load_state_dict(reference.features.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images)[-1], reference.features(images))


def test_stride_16_resnet_has_no_dilation() -> None:
    with torch.device("meta"):
        layers = {s: ResNet(models.resnet50, s, 2, "frozen").layer4 for s in (16, 8)}
    for stride, dilation in {16: (1, 1), 8: (4, 4)}.items():
        convolutions = [m for m in layers[stride].modules() if isinstance(m, nn.Conv2d)]
        assert all(m.stride == (1, 1) for m in convolutions)
        assert {m.dilation for m in convolutions if m.kernel_size == (3, 3)} == {dilation}


@pytest.mark.parametrize("frozen_stages", [0, 1, 2, 3])
def test_frozen_stages_carry_no_gradient(frozen_stages: int) -> None:
    backbone = tiny(frozen_stages).train()
    features = backbone(torch.rand(2, 3, 64, 64))
    frozen = frozen_stages + 1 if frozen_stages else 0  # the stem goes with the first layer
    assert [feature.requires_grad for feature in features] == [False] * frozen + [True] * (
        5 - frozen
    )
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


def test_unknown_backbone() -> None:
    with pytest.raises(KeyError, match="unknown backbone 'resnet34'; known: resnet18"):
        build_backbone("resnet34", "random")
