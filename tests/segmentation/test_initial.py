"""Segmenters that start from trained ones: what is loaded, what starts anew, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from protoseg.backbones.weights import WeightsError
from protoseg.segmentation.deeplab import SEGMENTERS, DeepLabV3, Segmenter
from protoseg.segmentation.initial import start_from_segmenter
from protoseg.training.checkpoint import save_weights

RATES = {"deeplab_v2": (1, 2), "large_fov": (2,), "deeplab_v3": (1, 2)}
LOGITS = {
    "deeplab_v2": {f"head.branches.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")},
    "large_fov": {"head.classifier.weight", "head.classifier.bias"},
    "deeplab_v3": {"head.4.weight", "head.4.bias"},
}


class Strided(nn.Module):
    """Features of 6 channels at stride 8."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, kernel, stride=8)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(self.conv(images))]


def network(head: str, classes: int, seed: int, kernel: int = 3) -> Segmenter:
    torch.manual_seed(seed)
    return SEGMENTERS[head](Strided(kernel), 6, classes, RATES[head], ())


def equal_keys(one: Segmenter, other: dict[str, Tensor]) -> set[str]:
    return {key for key, value in one.state_dict().items() if torch.equal(value, other[key])}


@pytest.mark.parametrize("head", SEGMENTERS)
@pytest.mark.parametrize("classes", [5, 3])
def test_all_is_loaded_but_logits_of_other_classes(
    tmp_path: Path, head: str, classes: int, caplog: pytest.LogCaptureFixture
) -> None:
    trained, fresh = network(head, 5, 0), network(head, classes, 1)
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    save_weights(tmp_path / "weights.pt", trained, {"class_names": ["a"] * 5})
    with caplog.at_level(logging.INFO):
        start_from_segmenter(fresh, tmp_path / "weights.pt", classes)
    new = LOGITS[head] if classes != 5 else set()
    state = trained.state_dict()
    loaded = {key for key in state if key not in new}
    assert all(torch.equal(fresh.state_dict()[key], state[key]) for key in loaded)
    assert new <= equal_keys(fresh, before)
    assert all(key in caplog.text for key in new)


def test_file_of_torchvision(tmp_path: Path) -> None:
    trained, fresh = network("deeplab_v3", 4, 0), network("deeplab_v3", 4, 1)
    state = {
        key.replace("head.", "classifier.", 1): value for key, value in trained.state_dict().items()
    }
    state["aux_classifier.4.bias"] = torch.zeros(4)
    torch.save(state, tmp_path / "deeplabv3.pth")
    start_from_segmenter(fresh, tmp_path / "deeplabv3.pth", 4)
    assert equal_keys(fresh, trained.state_dict()) == set(trained.state_dict())
    assert isinstance(fresh, DeepLabV3)


def test_other_heads_and_backbones_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save_weights(path, network("deeplab_v2", 4, 0), {})
    with pytest.raises(WeightsError, match="do not fit DeepLabLargeFOV") as caught:
        start_from_segmenter(network("large_fov", 4, 0), path, 4)
    assert "missing key head.classifier.bias" in str(caught.value)
    other = network("deeplab_v2", 4, 0, kernel=5)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(WeightsError, match=r"backbone\.conv\.weight has shape"):
        start_from_segmenter(other, path, 4)
    assert equal_keys(other, before) == set(before)
    with pytest.raises(WeightsError, match="does not exist"):
        start_from_segmenter(other, tmp_path / "absent.pt", 4)
