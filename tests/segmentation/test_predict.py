"""Multi-scale prediction: sizes, probabilities, mirror, and each fusion written out."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.segmentation.predict import (
    fuse_scores,
    likely_classes,
    predict_probabilities,
    score_grids,
)

Fusion = Literal["max", "mean"]
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
@pytest.mark.parametrize("flip", [False, True])
def test_is_a_distribution_at_the_size_asked_for(
    network: DeepLabV2, image: Tensor, fusion: Fusion, flip: bool
) -> None:
    before = image.clone()
    for size in (SIZE, (20, 81)):
        found = predict_probabilities(network, image, SCALES, flip, size, fusion)
        assert found.shape == (3, *size)
        assert found.dtype == torch.float32
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(0), torch.ones(size))
    assert torch.equal(image, before)


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_the_mirror_of_an_image_gives_the_mirror_of_the_result(
    network: DeepLabV2, image: Tensor, fusion: Fusion
) -> None:
    found = predict_probabilities(network, image, SCALES, True, SIZE, fusion)
    mirrored = predict_probabilities(network, image.flip(-1), SCALES, True, SIZE, fusion)
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
    wanted = {
        "mean": at_size.mean(0).softmax(0),
        "max": resized(on_grid.amax(0, keepdim=True), SIZE)[0].softmax(0),
    }
    for fusion, probabilities in wanted.items():
        for scales in (SCALES, SCALES[::-1]):
            found = predict_probabilities(forward, image, scales, False, SIZE, fusion)  # type: ignore[arg-type]
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
    network.train()
    for forward in (network, network.single_scale):
        with pytest.raises(ValueError, match=r"call \.eval"):
            predict_probabilities(forward, image, (1.0,), False, SIZE, "max")


@pytest.mark.parametrize(("fusion", "grids"), [("max", 1), ("mean", 3)])
def test_grids_of_some_classes_give_their_probabilities(
    network: DeepLabV2, image: Tensor, fusion: Fusion, grids: int
) -> None:
    forward = network.single_scale
    found = score_grids(forward, image, SCALES, True, fusion)
    assert [grid.shape[0] for grid in found] == [3] * grids
    every = fuse_scores(found, SIZE)
    torch.testing.assert_close(
        every, predict_probabilities(forward, image, SCALES, True, SIZE, fusion)
    )
    some = fuse_scores([grid[[0, 2]] for grid in found], SIZE)
    torch.testing.assert_close(some, functional.normalize(every[[0, 2]], p=1, dim=0))


def test_logits_are_enlarged_from_corner_to_corner(network: DeepLabV2, image: Tensor) -> None:
    forward = network.single_scale
    (grid,) = score_grids(forward, image, (1.0,), False, "max")
    found = fuse_scores([grid], SIZE, align_corners=True)
    torch.testing.assert_close(found[:, 0, 0], grid[:, 0, 0].softmax(0))
    torch.testing.assert_close(found[:, -1, -1], grid[:, -1, -1].softmax(0))
    every = predict_probabilities(forward, image, (1.0,), False, SIZE, "max", align_corners=True)
    torch.testing.assert_close(every, found)
    assert not torch.allclose(every, fuse_scores([grid], SIZE))


def test_likely_classes() -> None:
    probabilities = torch.full((4, 2, 3), 0.001)
    probabilities[2, 0, 0], probabilities[0, 1, 2] = 0.9, 0.05
    assert likely_classes(probabilities, 0.01).tolist() == [0, 2]
    assert likely_classes(probabilities, 0.0).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="minimum_probability"):
        likely_classes(probabilities, 0.95)
