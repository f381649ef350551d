"""Parameter groups and learning rates of segmenters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from protoseg.segmentation.deeplab import DeepLabV2, Segmenter
from protoseg.segmentation.heads import large_fov_batchnorm, large_fov_dilation5
from protoseg.segmentation.optimization import parameter_groups


class Normed(nn.Module):
    """A convolution with its BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(self.conv(images))]


def names(network: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    known = {id(parameter): name for name, parameter in network.named_parameters()}
    return {known[id(parameter)] for parameter in parameters}


def test_groups_of_deeplab() -> None:
    network = DeepLabV2(Normed(), 6, 3, (1, 2), ())
    groups = parameter_groups(network, 0.01, 5e-4, 0.9)
    assert [names(network, group["params"]) for group in groups] == [
        {"backbone.conv.weight"},
        {"head.branches.0.weight", "head.branches.1.weight"},
        {"head.branches.0.bias", "head.branches.1.bias"},
    ]
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.1, 0.2])
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0.0]
    assert {group["momentum"] for group in groups} == {0.9}
    optimizer = torch.optim.SGD(groups, lr=0.01)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.1, 0.2])


def test_norms_of_the_backbone_train_on_request() -> None:
    network = DeepLabV2(Normed(), 6, 3, (1,), ())
    backbone = parameter_groups(network, 0.01, 0.0, 0.9, train_norms=True)[0]
    wanted = {"backbone.conv.weight", "backbone.norm.weight", "backbone.norm.bias"}
    assert names(network, backbone["params"]) == wanted


def test_norms_of_the_head_always_train() -> None:
    network = Segmenter(Normed(), large_fov_batchnorm(6, 3, width=4), ())
    groups = parameter_groups(network, 0.01, 0.0, 0.9)
    assert "head.fov1_norm.weight" in names(network, groups[1]["params"])
    assert "head.fov1_norm.bias" in names(network, groups[2]["params"])
    taken = set().union(*(names(network, group["params"]) for group in groups))
    assert {n for n, _ in network.named_parameters()} - taken == {
        "backbone.norm.weight",
        "backbone.norm.bias",
    }


def test_a_head_without_biases_has_no_bias_group() -> None:
    network = Segmenter(Normed(), large_fov_dilation5(6, 3, width=4), ())
    assert len(parameter_groups(network, 0.01, 0.0, 0.9)) == 2
