"""WideResNet-38: the published list of layers, blocks against their plain form, output strides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.backbones.weights import load_checked
from protoseg.backbones.wide_resnet38 import PreActivationBlock, WideResNet38
from protoseg.localization.network import LocalizationNetwork

# Blocks: name, input channels, (window, channels) of the convolutions. A block's shortcut is a 1x1
# convolution where it changes the channels.
LAYERS: list[tuple[str, int, list[tuple[int, int]]]] = [
    ("b2", 64, [(3, 128), (3, 128)]),
    ("b2_1", 128, [(3, 128), (3, 128)]),
    ("b2_2", 128, [(3, 128), (3, 128)]),
    ("b3", 128, [(3, 256), (3, 256)]),
    ("b3_1", 256, [(3, 256), (3, 256)]),
    ("b3_2", 256, [(3, 256), (3, 256)]),
    ("b4", 256, [(3, 512), (3, 512)]),
    ("b4_1", 512, [(3, 512), (3, 512)]),
    ("b4_2", 512, [(3, 512), (3, 512)]),
    ("b4_3", 512, [(3, 512), (3, 512)]),
    ("b4_4", 512, [(3, 512), (3, 512)]),
    ("b4_5", 512, [(3, 512), (3, 512)]),
    ("b5", 512, [(3, 512), (3, 1024)]),
    ("b5_1", 1024, [(3, 512), (3, 1024)]),
    ("b5_2", 1024, [(3, 512), (3, 1024)]),
    ("b6", 1024, [(1, 512), (3, 1024), (1, 2048)]),
    ("b7", 2048, [(1, 1024), (3, 2048), (1, 4096)]),
]
BRANCHES = ("branch2a", "branch2b1", "branch2b2")
PARAMETERS = 105_070_912
# Per output stride, convolution -> (stride, dilation) where one of them is not 1.
HALVING = {"b2": (2, 1), "b3": (2, 1), "b4": (2, 1)}
DILATED = {f"b5{i}.conv_{branch}": (1, 2) for i in ("_1", "_2") for branch in BRANCHES[:2]}
GEOMETRY = {
    8: {
        "b5.conv_branch2b1": (1, 2),
        **DILATED,
        "b6.conv_branch2b1": (1, 4),
        "b7.conv_branch2b1": (1, 4),
    },
    16: {"b5": (2, 1), "b6.conv_branch2b1": (1, 2), "b7.conv_branch2b1": (1, 2)},
    32: {"b5": (2, 1), "b6": (2, 1)},
}


def tiny(output_stride: int = 8, frozen_stages: int = 0) -> WideResNet38:
    torch.manual_seed(0)
    network = WideResNet38(output_stride, frozen_stages, "frozen", width=1 / 16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.5)
            nn.init.normal_(module.running_mean, 0, 0.5)  # type: ignore[arg-type]
    return network


def expected_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"conv1a.weight": (64, 3, 3, 3)}
    norms = {"bn7": 4096}
    for block, width, convolutions in LAYERS:
        before = width
        for branch, (window, channels) in zip(BRANCHES, convolutions, strict=False):
            shapes[f"{block}.conv_{branch}.weight"] = (channels, before, window, window)
            norms[f"{block}.bn_{branch}"] = before
            before = channels
        if before != width:
            shapes[f"{block}.conv_branch1.weight"] = (before, width, 1, 1)
    for norm, channels in norms.items():
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = (channels,)
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


def test_keys_and_shapes_are_those_of_the_published_layers() -> None:
    shapes = expected_shapes()
    with torch.device("meta"):
        network = WideResNet38(8, 0, "frozen")
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes
    learned = [s for key, s in shapes.items() if key.endswith((".weight", ".bias"))]
    assert sum(torch.Size(shape).numel() for shape in learned) == PARAMETERS
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS


@pytest.mark.parametrize("output_stride", GEOMETRY)
def test_strides_and_dilations(output_stride: int) -> None:
    geometry = HALVING | GEOMETRY[output_stride]
    for name, module in tiny(output_stride).named_modules():
        if isinstance(module, nn.Conv2d):
            block, _, branch = name.partition(".")
            first = branch in ("conv_branch1", "conv_branch2a")
            stride, dilation = geometry.get(name, geometry.get(block, (1, 1)) if first else (1, 1))
            assert (name, *module.stride) == (name, stride, stride)
            assert (name, *module.dilation) == (name, dilation, dilation)


def plain_block(block: PreActivationBlock, features: Tensor, stride: int, dilation: int) -> Tensor:
    """The two-convolution block written out, the first convolution undilated."""
    state = block.state_dict()

    def activated(x: Tensor, branch: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"bn_{branch}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)

    first = activated(features, "branch2a")
    middle = functional.conv2d(first, state["conv_branch2a.weight"], stride=stride, padding=1)
    second = activated(middle, "branch2b1")
    residual = functional.conv2d(
        second, state["conv_branch2b1.weight"], padding=dilation, dilation=dilation
    )
    if "conv_branch1.weight" not in state:
        return features + residual
    return functional.conv2d(first, state["conv_branch1.weight"], stride=stride) + residual


@pytest.mark.parametrize(
    ("width", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 2, 1), (3, 1, 2)]
)
def test_block_is_its_plain_form(width: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    block = PreActivationBlock(width, (4, 5), stride, (1, dilation)).eval()
    for key, value in block.state_dict().items():
        if key.startswith("bn") and value.ndim:
            nn.init.uniform_(value, 0.5, 1.5)
    features = torch.randn(2, width, 7, 6)
    before = features.clone()
    found = block(features)
    assert found.shape == (2, 5, -(-7 // stride), -(-6 // stride))
    torch.testing.assert_close(found, plain_block(block, features, stride, dilation))
    assert torch.equal(features, before)


def test_output_strides_agree_where_their_grids_meet() -> None:
    networks = {stride: tiny(stride).eval() for stride in (8, 16, 32)}
    images = torch.randn(1, 3, 75, 49)
    with torch.no_grad():
        stages = {stride: network(images) for stride, network in networks.items()}
    for stride, steps in {16: (1, 1, 1, 2, 2), 32: (1, 1, 1, 2, 4)}.items():
        for step, dense, coarse in zip(steps, stages[8], stages[stride], strict=True):
            assert coarse.std() > 1e-2
            torch.testing.assert_close(dense[..., ::step, ::step], coarse, atol=1e-5, rtol=1e-4)


def test_dropout_is_where_it_is_published() -> None:
    network = tiny()
    rates = {
        n: m.dropout.p for n, m in network.named_modules() if isinstance(m, PreActivationBlock)
    }
    assert {name: rate for name, rate in rates.items() if rate} == {"b6": 0.3, "b7": 0.5}
    assert len(rates) == len(LAYERS)
    images = torch.randn(1, 3, 32, 32)
    network.train()
    first, second = network(images), network(images)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    assert not torch.equal(first[4], second[4])


def test_dropout_takes_whole_channels_before_all_convolutions_but_the_first() -> None:
    torch.manual_seed(0)
    block = PreActivationBlock(16, (16, 16, 32), dropout=0.5).train()
    taken: dict[str, Tensor] = {}

    def record(name: str, inputs: tuple[Tensor, ...]) -> None:
        zeros = (inputs[0] == 0).flatten(2)  # [B, C, N]
        assert torch.equal(zeros.any(2), zeros.all(2))
        taken[name] = zeros.any(2)

    for name, module in block.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 10.0)
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: record(name, inputs))
    block(torch.randn(2, 16, 5, 6))
    dropped = {name for name, channels in taken.items() if channels.any()}
    assert len(taken) == 4
    assert dropped == {"conv_branch2b1", "conv_branch2b2"}


def test_frozen_layer4_does_not_drop() -> None:
    network = tiny(frozen_stages=4).train()
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network(images)[-1], network(images)[-1], atol=0, rtol=0)


def test_files_without_counters_load() -> None:
    state = tiny().state_dict()
    converted = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    network = WideResNet38(16, 0, "frozen", width=1 / 16)
    load_checked(network, converted, "w.pth")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("output_stride", "grid"), [(8, (8, 6)), (16, (4, 3))])
def test_hierarchical_features(output_stride: int, grid: tuple[int, int]) -> None:
    network = LocalizationNetwork(tiny(output_stride), 3, (4, 4, 6, 6))
    features = network(torch.randn(1, 3, 64, 48))
    assert features.hierarchical is not None
    assert features.hierarchical.shape == (1, 20, *grid)
    assert features.semantic.shape == (1, 256, *grid)
