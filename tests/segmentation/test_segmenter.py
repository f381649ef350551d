"""The multi-scale network: names and grids of its logits, the maximum, evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.segmentation.deeplab import (
    DeepLabV2,
    Segmenter,
    rescale,
    resize_logits,
    scale_name,
)
from protoseg.segmentation.heads import large_fov_batchnorm


class TinyBackbone(nn.Module):
    """Two stages at strides 4 and 8, as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        first = functional.relu(self.first(images))
        return first, functional.relu(self.second(first))


def network(train_scales: tuple[float, ...] = (0.75, 0.5)) -> DeepLabV2:
    torch.manual_seed(0)
    return DeepLabV2(TinyBackbone(), 6, 5, (1, 2), train_scales)


def test_training_returns_every_scale_and_the_maximum() -> None:
    logits = network()(torch.randn(2, 3, 65, 49))
    sizes = {name: tuple(value.shape) for name, value in logits.items()}
    assert list(sizes) == ["full", "three_quarter", "half", "max"]
    assert sizes["full"] == sizes["max"] == (2, 5, 9, 7)
    assert sizes["half"] == (2, 5, 4, 3)
    for name in ("three_quarter", "half"):
        upsampled = resize_logits(logits[name], (9, 7))
        assert (logits["max"] >= upsampled).all()
    stacked = [logits["full"], *(resize_logits(logits[n], (9, 7)) for n in sizes if n != "max")]
    assert torch.equal(logits["max"], torch.stack(stacked).amax(0))


def test_evaluation_returns_the_maximum_alone() -> None:
    model, images = network(), torch.randn(1, 3, 40, 56)
    trained = model(images)
    evaluated = model.eval()(images)
    assert torch.equal(evaluated, trained["max"])
    assert torch.equal(model.single_scale(images), trained["full"])


def test_a_batch_equals_its_single_images() -> None:
    model, images = network().eval(), torch.randn(3, 3, 40, 56)
    singles = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), singles)


def test_gradients_reach_every_parameter() -> None:
    model = network()
    model(torch.randn(1, 3, 40, 56))["max"].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_without_further_scales_there_is_no_maximum() -> None:
    model = network(())
    assert list(model(torch.randn(1, 3, 40, 56))) == ["full"]


def test_logits_are_float32_under_autocast() -> None:
    model = Segmenter(TinyBackbone(), large_fov_batchnorm(6, 5, width=8), (0.5,))
    images = torch.randn(2, 3, 40, 56).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert {value.dtype for value in logits.values()} == {torch.float32}


@pytest.mark.parametrize("scales", [(0.5, 0.5), (1.0, 0.5)])
def test_scales_are_named_once(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="name each scale once"):
        network(scales)


def test_scale_names() -> None:
    assert [scale_name(s) for s in (0.5, 0.75, 0.6, 1.25)] == [
        "half",
        "three_quarter",
        "scale_0.6",
        "scale_1.25",
    ]


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5])
def test_rescale_rounds_down_and_samples_with_the_exact_step(scale: float) -> None:
    ramp = torch.arange(61.0)[None, None, None, :].expand(1, 1, 37, 61)
    scaled = rescale(ramp, scale)
    columns = int(61 * scale)
    assert scaled.shape == (1, 1, int(37 * scale), columns)
    wanted = ((torch.arange(columns) + 0.5) / scale - 0.5).clamp(0, 60)
    torch.testing.assert_close(scaled[0, 0, 0], wanted, atol=1e-4, rtol=0)
    assert rescale(ramp, 1.0) is ramp
