"""The networks that settings build: heads on backbones, and what trains of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from protoseg.backbones import BACKBONES
from protoseg.segmentation.deeplab import SEGMENTERS, DeepLabLargeFOV, DeepLabV3
from protoseg.segmentation.optimization import parameter_groups
from protoseg.segmentation.train import build_segmenter
from protoseg.settings.schema import SegmenterSettings

RATES = {"deeplab_v2": (6, 12, 18, 24), "large_fov": (12,), "deeplab_v3": (12, 24, 36)}


class Strided(nn.Module):
    """Features of 6 channels at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 7, stride=8, padding=3, bias=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


def settings(head: str, backbone: str = "resnet18") -> SegmenterSettings:
    return SegmenterSettings(head=head, backbone=backbone, rates=RATES[head], train_scales=())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_heads_fit_the_backbones(backbone: str) -> None:
    heads = SEGMENTERS if backbone == "resnet18" else ["large_fov"]
    with torch.device("meta"):
        for head in heads:
            network = build_segmenter(settings(head, backbone), 21, "random").eval()
            assert type(network) is SEGMENTERS[head]
            logits = network(torch.empty(1, 3, 65, 81))
            assert logits.shape == (1, 21, 9, 11)


def test_heads_have_the_published_sizes() -> None:
    with torch.device("meta"):
        large = build_segmenter(settings("large_fov", "wide_resnet38"), 21, "random").head
        third = build_segmenter(settings("deeplab_v3", "resnet101"), 21, "random").head
    convolution = large.get_submodule("fov1_conv")
    assert isinstance(convolution, nn.Conv2d)
    assert tuple(convolution.weight.shape) == (512, 4096, 3, 3)
    assert convolution.dilation == convolution.padding == (12, 12)
    dilations = [
        module.dilation[0]
        for module in third.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    ]
    assert dilations == [12, 24, 36, 1]
    assert sum(isinstance(module, nn.AdaptiveAvgPool2d) for module in third.modules()) == 1


@pytest.mark.parametrize("kind", [DeepLabLargeFOV, DeepLabV3])
def test_a_batch_equals_its_single_images_and_gradients_reach_all(
    kind: type[DeepLabLargeFOV] | type[DeepLabV3],
) -> None:
    torch.manual_seed(0)
    network, images = kind(Strided(), 6, 4, (2,), (0.5,)), torch.randn(2, 3, 40, 56)
    logits = network(images)
    assert {name: value.shape[2:] for name, value in logits.items()} == {
        "full": (5, 7),
        "half": (3, 4),
        "max": (5, 7),
    }
    logits["max"].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    singles = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), singles, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", SEGMENTERS)
def test_parameter_groups_take_the_backbone_once_and_the_whole_head(head: str) -> None:
    with torch.device("meta"):
        network = build_segmenter(settings(head), 21, "random")
    groups = parameter_groups(network, 1e-3, 5e-4, 0.9)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-2, 2e-2])
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0]
    taken = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(set(taken)) == len(taken)
    assert {id(parameter) for parameter in network.head.parameters()} <= set(taken)
    assert all(parameter.ndim == 4 for parameter in groups[0]["params"])
