"""Networks for evaluation: the features of the trained one, without its batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from protoseg.backbones import Backbone, build_backbone
from protoseg.backbones.folding import FoldedBackbone, for_evaluation
from protoseg.backbones.mobilenet import MobileNetV2
from protoseg.backbones.wide_resnet38 import WideResNet38


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


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


class Headed(nn.Module):
    """A backbone and 1x1 convolutions on its last stage: plain, strided, padded, grouped."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.widths[-1]
        self.heads = nn.ModuleList(
            [
                nn.Conv2d(width, 4, 1),
                nn.Conv2d(width, 4, 1, stride=2),
                nn.Conv2d(width, 4, 1, padding=1),
                nn.Conv2d(width, 4, 1, groups=4, bias=False),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [head(self.backbone(images)[-1]) for head in self.heads]


def test_a_network_for_evaluation_gives_what_it_gave() -> None:
    network = Headed(trained("resnet18")).train()
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        expected = network.eval()(images)
        found = for_evaluation(network.train(), torch.device("cpu"))
        assert found is network
        assert not found.training
        assert not norms_of(found)
        for one, other in zip(found(images), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
