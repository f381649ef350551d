"""Segmentation heads: features [B, C, H, W] -> class logits [B, classes, H, W] on the same grid.

`AtrousPyramid` is the head of DeepLabV2 (section 3.2, "ASPP"); `large_fov_batchnorm`,
`large_fov_caffe` and `large_fov_dilation5` are three published forms of DeepLab-LargeFOV (section
3.1): a dilated 3x3 convolution, a second hidden layer, a 1x1 classifier. Class 0 is background.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

INITIAL_DEVIATION = 0.01  # of the weights that give logits, DeepLabV2's published code


class AtrousPyramid(nn.Module):
    """Sum of parallel dilated 3x3 convolutions from the features straight to classes.

    Weights start from N(0, 0.01), biases from 0 (published code of DeepLabV2).

    Args:
        channels: of the features. classes: background included.
        rates: dilation and padding of each branch, in cells of the feature grid.
    """

    def __init__(self, channels: int, classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        if not rates:
            raise ValueError("rates is empty; name at least one dilation, such as 6, 12, 18, 24")
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            initialize_classifier(branch)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes, H, W]; the sum is taken in float32 or wider."""
        logits = at_least_float32(self.branches[0](features))
        for branch in self.branches[1:]:
            logits = logits + at_least_float32(branch(features))
        return logits


def large_fov_batchnorm(
    channels: int, classes: int, width: int = 512, dilation: int = 12, dropout: float = 0.5
) -> nn.Sequential:
    """LargeFOV as SEAM trains it: 3x3 dilated, 1x1, each with BatchNorm and ReLU; dropout; 1x1.

    Only the classifier has a bias. Hidden weights start as He et al. proposed for ReLU.
    """
    head = nn.Sequential(
        OrderedDict(
            fov1_conv=_dilated(channels, width, dilation, bias=False),
            fov1_norm=nn.BatchNorm2d(width),
            fov1_relu=nn.ReLU(),
            fov2_conv=nn.Conv2d(width, width, 1, bias=False),
            fov2_norm=nn.BatchNorm2d(width),
            fov2_relu=nn.ReLU(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Conv2d(width, classes, 1),
        )
    )
    return _initialized(head)


def large_fov_caffe(
    channels: int, classes: int, width: int = 4096, dilation: int = 12, dropout: float = 0.5
) -> nn.Sequential:
    """LargeFOV of the Caffe models: 3x3 max pool of stride 1, then 3x3 dilated, 1x1, 1x1.

    Every convolution has a bias, both hidden layers a ReLU and, in training, dropout.
    """
    head = nn.Sequential(
        OrderedDict(
            pool=nn.MaxPool2d(3, stride=1, padding=1),
            fov1_conv=_dilated(channels, width, dilation, bias=True),
            fov1_relu=nn.ReLU(),
            fov1_dropout=nn.Dropout(dropout),
            fov2_conv=nn.Conv2d(width, width, 1),
            fov2_relu=nn.ReLU(),
            fov2_dropout=nn.Dropout(dropout),
            classifier=nn.Conv2d(width, classes, 1),
        )
    )
    return _initialized(head)


def large_fov_dilation5(
    channels: int, classes: int, width: int = 512, dilation: int = 5
) -> nn.Sequential:
    """The form with two 3x3 convolutions of dilation 5 (a ReLU each) and a 1x1; no biases."""
    head = nn.Sequential(
        OrderedDict(
            fov1_conv=_dilated(channels, width, dilation, bias=False),
            fov1_relu=nn.ReLU(),
            fov2_conv=_dilated(width, width, dilation, bias=False),
            fov2_relu=nn.ReLU(),
            classifier=nn.Conv2d(width, classes, 1, bias=False),
        )
    )
    return _initialized(head)


def initialize_classifier(layer: nn.Module) -> None:
    """Weights from N(0, 0.01), bias 0, in place: logits start near 0 whatever the backbone."""
    assert isinstance(layer, nn.Conv2d)
    nn.init.normal_(layer.weight, std=INITIAL_DEVIATION)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _dilated(channels: int, width: int, dilation: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=bias)


def _initialized(head: nn.Sequential) -> nn.Sequential:
    for layer in head:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    initialize_classifier(head[-1])
    return head
