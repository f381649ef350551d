"""Multi-scale prediction: sizes, probabilities, mirror, and each fusion written out."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.segmentation.predict import predict_probabilities

Fusion = Literal["max", "mean"]
Fused = Literal["logits", "probabilities"]
SIZE = (37, 54)
SCALES = (0.5, 1.0, 1.5)


class Strided(nn.Module):
    """One convolution of stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 7, stride=8, padding=3)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


@pytest.fixture
def network() -> DeepLabV2:
    torch.manual_seed(0)
    model = DeepLabV2(Strided(), 4, 3, (1, 2), (0.5,)).eval()
    for parameter in model.head.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.fixture
def image() -> Tensor:
    return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1))


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(logits, size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("fusion", ["max", "mean"])
@pytest.mark.parametrize("fused", ["logits", "probabilities"])
@pytest.mark.parametrize("flip", [False, True])
def test_is_a_distribution_at_the_size_asked_for(
    network: DeepLabV2, image: Tensor, fusion: Fusion, fused: Fused, flip: bool
) -> None:
    before = image.clone()
    for size in (SIZE, (20, 81)):
        found = predict_probabilities(network, image, SCALES, flip, size, fusion, fused)
        assert found.shape == (3, *size)
        assert found.dtype == torch.float32
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(0), torch.ones(size))
    assert torch.equal(image, before)


@pytest.mark.parametrize("fusion", ["max", "mean"])
@pytest.mark.parametrize("fused", ["logits", "probabilities"])
def test_the_mirror_of_an_image_gives_the_mirror_of_the_result(
    network: DeepLabV2, image: Tensor, fusion: Fusion, fused: Fused
) -> None:
    found = predict_probabilities(network, image, SCALES, True, SIZE, fusion, fused)
    mirrored = predict_probabilities(network, image.flip(-1), SCALES, True, SIZE, fusion, fused)
    torch.testing.assert_close(mirrored.flip(-1), found)


@torch.no_grad()
def test_fusions_written_out(network: DeepLabV2, image: Tensor) -> None:
    forward = network.single_scale
    per_scale = [
        forward(functional.interpolate(image[None], scale_factor=scale, mode="bilinear"))
        for scale in (1.5, 1.0, 0.5)
    ]
    at_size = torch.cat([resized(logits, SIZE) for logits in per_scale])
    grid = (per_scale[0].shape[2], per_scale[0].shape[3])
    on_grid = torch.cat([resized(logits, grid) for logits in per_scale])
    highest = on_grid.softmax(1).amax(0, keepdim=True)
    wanted = {
        ("mean", "logits"): at_size.mean(0).softmax(0),
        ("mean", "probabilities"): at_size.softmax(1).mean(0),
        ("max", "logits"): resized(on_grid.amax(0, keepdim=True), SIZE)[0].softmax(0),
        ("max", "probabilities"): functional.normalize(resized(highest, SIZE)[0], p=1, dim=0),
    }
    for (fusion, fused), probabilities in wanted.items():
        for scales in (SCALES, SCALES[::-1]):
            found = predict_probabilities(forward, image, scales, False, SIZE, fusion, fused)  # type: ignore[arg-type]
            torch.testing.assert_close(found, probabilities)


@torch.no_grad()
def test_the_networks_own_maximum_equals_the_fused_scales(
    network: DeepLabV2, image: Tensor
) -> None:
    own = predict_probabilities(network, image, (1.0,), False, SIZE, "max")
    fused = predict_probabilities(network.single_scale, image, (1.0, 0.5), False, SIZE, "max")
    torch.testing.assert_close(own, fused)
    torch.testing.assert_close(own, resized(network(image[None]), SIZE)[0].softmax(0))


def test_errors_say_what_to_do(network: DeepLabV2, image: Tensor) -> None:
    with pytest.raises(ValueError, match="scales is empty"):
        predict_probabilities(network, image, (), False, SIZE, "max")
    with pytest.raises(ValueError, match="use max or mean"):
        predict_probabilities(network, image, (1.0,), False, SIZE, "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use logits or probabilities"):
        predict_probabilities(network, image, (1.0,), False, SIZE, "max", "votes")  # type: ignore[arg-type]
    network.train()
    for forward in (network, network.single_scale):
        with pytest.raises(ValueError, match=r"call \.eval"):
            predict_probabilities(forward, image, (1.0,), False, SIZE, "max")
