"""Device and arithmetic."""

from __future__ import annotations

import torch
from torch import nn

from protoseg.training.precision import autocast, default_device, place


def test_autocast_by_name() -> None:
    layer, images = nn.Conv2d(3, 2, 1), torch.rand(1, 3, 4, 4)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert layer(images).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "float32"):
        assert layer(images).dtype == torch.float32


def test_place_keeps_values_in_channels_last() -> None:
    layer = nn.Conv2d(3, 4, 3)
    before = layer.weight.detach().clone()
    assert place(layer, torch.device("cpu")) is layer
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.weight, before)


def test_default_device_exists() -> None:
    assert torch.zeros(1, device=default_device()).device.type == default_device().type
