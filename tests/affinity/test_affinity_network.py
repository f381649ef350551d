"""Shapes, resampling, mean shift and gradients of the affinity network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from protoseg.affinity.network import AffinityNetwork, Projection

SHAPES = {
    "resnet50": ((64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16)),
    "mobilenet_v2": ((16, 24, 32, 96, 1280), (2, 4, 8, 16, 16)),
    "dilated": ((8, 8, 8, 8, 8), (4, 4, 8, 8, 8)),
    "plain": ((8, 8, 8, 8, 8), (4, 4, 8, 16, 32)),
}


def stage_outputs(name: str, height: int, width: int, images: int = 2) -> list[Tensor]:
    widths, strides = SHAPES[name]
    torch.manual_seed(0)
    return [
        torch.rand(images, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(widths, strides, strict=True)
    ]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (57, 70)])
def test_outputs_have_the_grid_of_stage_two(name: str, size: tuple[int, int]) -> None:
    network = AffinityNetwork(*SHAPES[name], displacement=True)
    edge, field = network(stage_outputs(name, *size))
    grid = (-(-size[0] // 4), -(-size[1] // 4))
    assert edge.shape == (2, 1, *grid)
    assert field.shape == (2, 2, *grid)


def test_displacement_branch_can_be_left_out() -> None:
    network = AffinityNetwork(*SHAPES["plain"], displacement=False)
    assert network.displacement is None
    assert network(stage_outputs("plain", 64, 64)).displacement is None
    assert not any("displacement." in name for name, _ in network.named_parameters())


def test_mean_is_subtracted_in_evaluation_only() -> None:
    network = AffinityNetwork(*SHAPES["plain"], displacement=True)
    mean = torch.tensor([1.5, -0.25])
    network.displacement_mean.copy_(mean)
    stages = stage_outputs("plain", 64, 64)
    raw, shifted = network.train()(stages).displacement, network.eval()(stages).displacement
    torch.testing.assert_close(raw - shifted, mean[None, :, None, None].expand_as(raw))


def test_batch_equals_its_single_images() -> None:
    network = AffinityNetwork(*SHAPES["mobilenet_v2"], displacement=True)
    stages = stage_outputs("mobilenet_v2", 61, 83)
    batch = network(stages)
    for number in range(2):
        single = network([stage[number : number + 1] for stage in stages])
        torch.testing.assert_close(batch.edge_logits[number], single.edge_logits[0])
        torch.testing.assert_close(batch.displacement[number], single.displacement[0])


def test_reduction_is_bilinear_with_half_pixel_centres() -> None:
    projection = Projection(8, 8, 2, stride=2, out_stride=4)
    features = torch.rand(1, 8, 10, 14)
    normed = projection.norm(projection.conv(features))
    expected = torch.nn.functional.interpolate(normed, (5, 7), mode="bilinear").relu()
    torch.testing.assert_close(projection(features), expected)


def test_every_parameter_gets_a_gradient_and_stages_stay_as_they_were() -> None:
    network = AffinityNetwork(*SHAPES["mobilenet_v2"], displacement=True)
    stages = stage_outputs("mobilenet_v2", 64, 64)
    before = [stage.clone() for stage in stages]
    edge, field = network(stages)
    (edge.square().sum() + field.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, stages, strict=True))


def test_autocast_and_channels_last_give_float32_outputs() -> None:
    network = AffinityNetwork(*SHAPES["mobilenet_v2"], displacement=True)
    stages = stage_outputs("mobilenet_v2", 61, 83)
    expected = network(stages)
    low = [stage.bfloat16().to(memory_format=torch.channels_last) for stage in stages]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fields = network(low)
    assert fields.edge_logits.dtype == fields.displacement.dtype == torch.float32
    torch.testing.assert_close(fields.edge_logits, expected.edge_logits, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("widths", "strides"),
    [((8, 8, 8, 8), (4, 4, 8, 16)), ((8,) * 5, (2, 2, 4, 8, 8)), ((8,) * 5, (3, 4, 8, 16, 16))],
)
def test_stages_that_do_not_fit_are_refused(widths: tuple[int], strides: tuple[int]) -> None:
    with pytest.raises(ValueError, match="stride"):
        AffinityNetwork(widths, strides, displacement=True)
