"""Edge maps of images of any size: padded as in training, never cropped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.model import AffinityModel
from protoseg.affinity.walk import edge_probability
from protoseg.settings.schema import AffinitySettings

CROP = 96


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    torch.manual_seed(0)
    settings = AffinitySettings(backbone="mobilenet_v2", crop=CROP, displacement=False)
    return AffinityModel(settings, "random").eval()


@torch.inference_mode()
def edge_in(model: AffinityModel, image: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Edge map of the image in the top left of a canvas of zeros, both ways round."""
    height, width = image.shape[1:]
    padded = [
        functional.pad(one, (0, canvas[1] - width, 0, canvas[0] - height))
        for one in (image, image.flip(-1))
    ]
    logits = model(torch.stack(padded)).edge_logits
    return edge_probability(logits, (-(-height // 4), -(-width // 4)))


@pytest.mark.parametrize(
    ("size", "to_crop", "to_stride"),
    [
        ((50, 70), (96, 96), (64, 80)),
        ((64, 130), (96, 144), (64, 144)),
        ((96, 100), (96, 112), (96, 112)),
    ],
)
def test_images_are_padded_and_never_cropped(
    model: AffinityModel,
    size: tuple[int, int],
    to_crop: tuple[int, int],
    to_stride: tuple[int, int],
) -> None:
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    edges = {pad: model.edge(image, "float32", pad) for pad in (True, False)}
    torch.testing.assert_close(edges[True], edge_in(model, image, to_crop), rtol=0, atol=1e-5)
    torch.testing.assert_close(edges[False], edge_in(model, image, to_stride), rtol=0, atol=1e-5)
    assert (to_crop == to_stride) == torch.allclose(edges[True], edges[False], rtol=0, atol=1e-5)
