"""DeepLabV2's parameter groups, logit sizes and learning rates against golden/deeplab."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from torch import Tensor, nn
from torchvision.models import resnet101

from protoseg.segmentation import optimization
from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.training.schedule import POWER, poly_factor


def load(file: Path) -> dict[str, Tensor]:
    with np.load(file) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


class ResNet101(nn.Module):
    """torchvision's ResNet-101 at output stride 8, its max pool rounding up as Caffe's."""

    def __init__(self) -> None:
        super().__init__()
        network = resnet101(weights=None, replace_stride_with_dilation=[False, True, True])
        network.maxpool.ceil_mode = True
        self.stages = nn.Sequential(*list(network.children())[:-2])

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.stages(images)]


@pytest.fixture(scope="module")
def deeplab_resnet101() -> Callable[[int, int], DeepLabV2]:
    """Builds on the meta device: shapes and counts without arithmetic."""

    def build(classes: int, branches: int) -> DeepLabV2:
        rates = [6 * number for number in range(1, branches + 1)]
        with torch.device("meta"):
            return DeepLabV2(ResNet101(), 2048, classes, rates, (0.5, 0.75))

    return build


@pytest.mark.parametrize("file", golden_files("deeplab", "param_groups*.json"))
def test_parameter_groups(file: Path, deeplab_resnet101: Callable[[int, int], DeepLabV2]) -> None:
    expected = json.loads(file.read_text())
    counts = expected["counts_tensors_and_elements"]
    branches, elements = counts["20x"]
    network = deeplab_resnet101(elements // branches, branches)
    rules, base = expected["groups"], expected["base_lr"]
    decay = rules["lr_1x"]["weight_decay"]
    groups = optimization.parameter_groups(network, base, decay, expected["momentum"])
    for name, group in zip(("1x", "10x", "20x"), groups, strict=True):
        rule = rules[f"lr_{name}"]
        assert [len(group["params"]), sum(p.numel() for p in group["params"])] == counts[name]
        assert group["lr"] == pytest.approx(rule["lr_multiple"] * base, rel=1e-12)
        assert group["weight_decay"] == rule["weight_decay"]
        assert group["momentum"] == expected["momentum"]
    taken = {id(parameter) for group in groups for parameter in group["params"]}
    left = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    assert [len(left), sum(p.numel() for p in left)] == counts["not optimised"]


@pytest.mark.parametrize("file", golden_files("deeplab", "param_groups*.json"))
def test_logit_sizes(file: Path, deeplab_resnet101: Callable[[int, int], DeepLabV2]) -> None:
    expected = json.loads(file.read_text())["logit_sizes_full_half_threequarter"]
    network = deeplab_resnet101(2, 1)
    for size, wanted in expected.items():
        height, width = map(int, size.split("x"))
        logits = network(torch.empty(2, 3, height, width, device="meta"))
        found = [list(logits[name].shape[2:]) for name in ("full", "half", "three_quarter")]
        assert found == wanted, size


@pytest.mark.parametrize("file", golden_files("deeplab", "learning_rates*.npz"))
def test_learning_rates_in_blocks(file: Path) -> None:
    arrays = load(file)
    limits = [int(match[1]) for n in arrays if (match := re.fullmatch(r"iterations_(\d+)", n))]
    assert limits
    for limit in limits:
        base = float(arrays[f"base_lr_{limit}"])
        multiples = (1.0, optimization.HEAD_WEIGHT_MULTIPLE, optimization.HEAD_BIAS_MULTIPLE)
        used = arrays[f"lr_used_{limit}"].tolist()
        for iteration, rates in zip(arrays[f"iterations_{limit}"].tolist(), used, strict=True):
            step = iteration - 1  # the file counts from 1
            for multiple, rate in zip(multiples, rates, strict=True):
                factor = poly_factor(step, limit, block=10)
                assert multiple * base * factor == pytest.approx(rate, rel=1e-12)
        for multiple, rate in zip(multiples, arrays[f"lr_after_last_{limit}"], strict=True):
            found = multiple * base * poly_factor(limit, limit, block=10, hold=False)
            assert found == pytest.approx(float(rate), rel=1e-12)


@pytest.mark.parametrize("file", golden_files("deeplab", "learning_rates*.npz"))
def test_learning_rates_every_step(file: Path) -> None:
    arrays = load(file)
    steps, rates = arrays["yudewang_iterations"].tolist(), arrays["yudewang_lr"]
    assert steps[0] == 0
    base = float(rates[0, 0])
    last = float(rates[-1, 0] / base) ** (1 / POWER)
    limit = round(steps[-1] / (1 - last)) - 1  # the file does not name it
    for step, row in zip(steps, rates, strict=True):
        for start, rate in zip(rates[0].tolist(), row.tolist(), strict=True):
            found = start * poly_factor(step, limit + 1)
            assert found == pytest.approx(rate, rel=1e-12)
