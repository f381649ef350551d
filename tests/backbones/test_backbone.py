"""Every backbone by name: stages, strides, freezing, key names; on torch's meta device."""

from __future__ import annotations

import sys
from functools import cache

import pytest
import torch
from timm.models.xception import Xception
from torch import nn
from torchvision import models

from protoseg.backbones import BACKBONES, Backbone, build_backbone
from protoseg.backbones.weights import WeightsError, load_checked
from protoseg.settings.classifier import BACKBONE_NAMES

IN_TORCHVISION = [name for name in BACKBONES if name not in ("xception", "wide_resnet38")]
BOTTLENECK = (64, 256, 512, 1024, 2048)
WIDTHS = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": BOTTLENECK,
    "resnet101": BOTTLENECK,
    "resnext50_32x4d": BOTTLENECK,
    "resnext101_32x8d": BOTTLENECK,
    "wide_resnet50_2": BOTTLENECK,
    "wide_resnet101_2": BOTTLENECK,
    "mobilenet_v2": (16, 24, 32, 96, 1280),
    "xception": (64, 128, 256, 728, 2048),
    "wide_resnet38": (128, 256, 512, 1024, 4096),
}
DEEP_STRIDES = {8: (8, 8), 16: (16, 16), 32: (16, 32)}
SIZE = (75, 101)
GRIDS = {2: (38, 51), 4: (19, 26), 8: (10, 13), 16: (5, 7), 32: (3, 4)}  # of SIZE, rounded up
POOLED_UP = (20, 26)  # DeepLabV2's pooling: 75 -> 38 -> 20


@cache
def on_meta(name: str, output_stride: int = 16) -> Backbone:
    with torch.device("meta"):
        return build_backbone(name, "random", output_stride=output_stride)


@pytest.mark.parametrize("output_stride", DEEP_STRIDES)
@pytest.mark.parametrize("name", BACKBONES)
def test_widths_strides_and_grids(name: str, output_stride: int) -> None:
    backbone = on_meta(name, output_stride)
    with torch.no_grad():
        features = backbone(torch.rand(2, 3, *SIZE, device="meta"))
    is_resnet = name.startswith(("resne", "wide_resnet50", "wide_resnet101"))
    strides = (4 if is_resnet else 2, 4, 8, *DEEP_STRIDES[output_stride])
    assert backbone.strides == strides
    assert backbone.widths == WIDTHS[name]
    grids = dict(GRIDS)
    if is_resnet and output_stride == 8:
        grids[4] = POOLED_UP
    wanted = [(2, w, *grids[s]) for w, s in zip(WIDTHS[name], strides, strict=True)]
    assert [feature.shape for feature in features] == wanted


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_keys_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        expected = models.get_model(name, weights=None).state_dict()
    heads = ("fc.", "classifier.")
    shapes = {k: v.shape for k, v in expected.items() if not k.startswith(heads)}
    assert {key: value.shape for key, value in on_meta(name).state_dict().items()} == shapes


def test_keys_of_xception_are_those_of_timm() -> None:
    with torch.device("meta"):
        expected = Xception().state_dict()
    shapes = {k: v.shape for k, v in expected.items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in on_meta("xception").state_dict().items()} == shapes


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_with_other_keys_are_refused(name: str) -> None:
    backbone = on_meta(name)
    state = dict(backbone.state_dict())
    first = next(iter(state))
    with pytest.raises(WeightsError, match=rf"\(1 problems\):\n  missing key {first}$"):
        load_checked(backbone, {k: v for k, v in state.items() if k != first}, "w.pth")
    with pytest.raises(WeightsError, match=r"\(1 problems\):\n  unexpected key fc8\.weight$"):
        load_checked(backbone, state | {"fc8.weight": state[first]}, "w.pth")


@pytest.mark.parametrize("name", BACKBONES)
def test_frozen_stages_carry_no_gradient(name: str) -> None:
    backbone = on_meta(name).train()
    backbone.zero_grad()
    features = backbone(torch.rand(2, 3, 64, 48, device="meta"))
    assert [feature.requires_grad for feature in features] == [False] * 3 + [True] * 2
    features[-1].sum().backward()
    for number, stage in enumerate(backbone.stage_modules()):
        gradients = [parameter.grad is not None for parameter in stage.parameters()]
        assert gradients
        assert set(gradients) == {number > 2}


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_hold_every_parameter_once(name: str) -> None:
    backbone = on_meta(name)
    of_stages = [id(p) for stage in backbone.stage_modules() for p in stage.parameters()]
    assert sorted(of_stages) == sorted(id(p) for p in backbone.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_frozen_norms_do_not_train(name: str) -> None:
    modules = on_meta(name).train().modules()
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "xception", "wide_resnet38"])
def test_other_output_strides_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="output_stride 4 is not offered; choose one of 8, 16, 32"):
        build_backbone(name, "random", output_stride=4)


@pytest.mark.parametrize("name", ["xception", "wide_resnet38"])
def test_weights_that_torchvision_does_not_have(name: str) -> None:
    with pytest.raises(WeightsError, match=rf"no weights of {name}; set `weights` to a file, such"):
        build_backbone(name, "torchvision")


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_torchvision_has_a_file_with_a_hash(name: str) -> None:
    url = BACKBONES[name].url
    assert url.startswith(f"https://download.pytorch.org/models/{name}-")


def test_only_xception_needs_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.models.xception", None)
    with torch.device("meta"):
        build_backbone("resnet18", "random")
        with pytest.raises(ImportError):
            build_backbone("xception", "random")


def test_unknown_backbone() -> None:
    with pytest.raises(KeyError, match="unknown backbone 'resnet34'; known: resnet18"):
        build_backbone("resnet34", "random")


def test_settings_offer_every_backbone() -> None:
    assert list(BACKBONES) == BACKBONE_NAMES
