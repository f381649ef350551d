"""Folded backbones: the features of the backbone, without its batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from protoseg.backbones import Backbone, build_backbone
from protoseg.backbones.folding import FoldedBackbone
from protoseg.backbones.mobilenet import MobileNetV2
from protoseg.backbones.wide_resnet38 import WideResNet38


def norms_of(backbone: Backbone) -> list[nn.BatchNorm2d]:
    return [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]


def trained(name: str) -> Backbone:
    """A small backbone whose norms have seen something."""
    torch.manual_seed(0)
    backbone: Backbone
    if name == "mobilenet_v2":
        backbone = MobileNetV2(16, 0, "frozen", width=0.1)
    elif name == "wide_resnet38":
        backbone = WideResNet38(16, 0, "frozen", width=1 / 16)
    else:
        backbone = build_backbone(name, "random")
    for norm in norms_of(backbone):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    return backbone.eval()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "wide_resnet38"])
def test_features_stay(name: str) -> None:
    backbone = trained(name)
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    images = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        found, expected = FoldedBackbone(backbone)(images), backbone(images)
    for one, other in zip(found, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one / scale, other / scale, atol=1e-5, rtol=0)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "xception", "wide_resnet38"])
def test_norms_go_where_a_convolution_stands_before(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, "random").eval()
    folded = FoldedBackbone(backbone)
    assert (folded.widths, folded.strides) == (backbone.widths, backbone.strides)
    assert len(norms_of(backbone)) > 0
    assert len(norms_of(folded)) == (17 if name == "wide_resnet38" else 0)


def test_a_backbone_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        FoldedBackbone(MobileNetV2(16, 0, "frozen", width=0.1).train())
