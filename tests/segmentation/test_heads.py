"""Segmentation heads: shapes, initial weights, and a textbook dilated convolution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from protoseg.segmentation.heads import (
    AtrousPyramid,
    large_fov_batchnorm,
    large_fov_caffe,
    large_fov_dilation5,
)

FORMS = [large_fov_batchnorm, large_fov_caffe, large_fov_dilation5]


def textbook_pyramid(head: AtrousPyramid, features: Tensor, rates: tuple[int, ...]) -> Tensor:
    """The sum written out: logit of a cell = sum over branches and taps of weight x feature."""
    batch, _, height, width = features.shape
    state = head.state_dict()
    classes = state["branches.0.bias"].shape[0]
    logits = torch.zeros(batch, classes, height, width, dtype=features.dtype)
    for number, rate in enumerate(rates):
        weight = state[f"branches.{number}.weight"]
        logits += state[f"branches.{number}.bias"][:, None, None]
        for y in range(height):
            for x in range(width):
                for tap_y in range(3):
                    for tap_x in range(3):
                        row, column = y + (tap_y - 1) * rate, x + (tap_x - 1) * rate
                        if 0 <= row < height and 0 <= column < width:
                            seen = features[:, :, row, column]
                            logits[:, :, y, x] += seen @ weight[:, :, tap_y, tap_x].T
    return logits


def test_pyramid_equals_the_textbook() -> None:
    torch.manual_seed(0)
    rates = (1, 2, 5)
    head = AtrousPyramid(4, 3, rates).double()
    nn.init.normal_(head.get_parameter("branches.1.bias"))
    features = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(head(features), textbook_pyramid(head, features, rates))


def test_pyramid_starts_as_published() -> None:
    torch.manual_seed(0)
    head = AtrousPyramid(256, 21, (6, 12))
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05)
            assert abs(parameter.mean().item()) < 1e-3


def test_pyramid_sums_in_float32_under_autocast() -> None:
    head = AtrousPyramid(8, 3, (1, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.branches[0](torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16
        assert head(torch.randn(1, 8, 5, 5)).dtype == torch.float32


def test_pyramid_needs_rates() -> None:
    with pytest.raises(ValueError, match="rates is empty"):
        AtrousPyramid(8, 3, ())


@pytest.mark.parametrize("form", FORMS)
def test_large_fov_keeps_the_grid(form: Callable[..., nn.Sequential]) -> None:
    head = form(6, 4, width=8)
    for size in ((9, 13), (3, 2)):
        assert head(torch.randn(2, 6, *size)).shape == (2, 4, *size)
    assert head.get_parameter("classifier.weight").std().item() == pytest.approx(0.01, rel=0.6)


def test_large_fov_biases_and_widths() -> None:
    def biases(head: nn.Sequential) -> list[bool]:
        return [layer.bias is not None for layer in head if isinstance(layer, nn.Conv2d)]

    assert biases(large_fov_batchnorm(4, 3)) == [False, False, True]
    assert biases(large_fov_caffe(4, 3, width=8)) == [True, True, True]
    assert biases(large_fov_dilation5(4, 3)) == [False, False, False]
    assert large_fov_batchnorm(4, 3).get_parameter("fov1_conv.weight").shape[0] == 512
    with torch.device("meta"):
        assert large_fov_caffe(4, 3).get_parameter("fov2_conv.weight").shape[0] == 4096


@pytest.mark.parametrize("form", FORMS[:2])
def test_dropout_acts_in_training_alone(form: Callable[..., nn.Sequential]) -> None:
    torch.manual_seed(0)
    head, features = form(6, 4, width=16), torch.randn(4, 6, 9, 9)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))
