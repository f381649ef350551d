"""Initial weights: what fits loads, what does not is told in one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from protoseg.backbones.mobilenet import MobileNetV2
from protoseg.backbones.transfer import classifier_backbone
from protoseg.backbones.weights import (
    WeightsError,
    load_checked,
    load_initial_weights,
    read_state_dict,
)
from protoseg.errors import InputError
from protoseg.training.checkpoint import save_weights


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def equal(found: nn.Module, expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())


def test_file_loads_without_torchvisions_head(tmp_path: Path) -> None:
    state = network(1).state_dict()
    torch.save(state | {"fc.weight": torch.zeros(5, 2)}, tmp_path / "w.pth")
    own = network(0)
    load_initial_weights(own, str(tmp_path / "w.pth"), "unused")
    assert equal(own, state)


def test_nested_state_dict_and_files_without_counters(tmp_path: Path) -> None:
    state = network(1).state_dict()
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save({"state_dict": old}, tmp_path / "w.pth")
    own = network(0)
    load_initial_weights(own, str(tmp_path / "w.pth"), "unused")
    assert equal(own, state)


def test_every_key_that_does_not_fit_is_in_one_message() -> None:
    state = dict(network().state_dict())
    del state["0.bias"]
    state["1.weight"] = torch.zeros(7)
    state["2.weight"] = torch.zeros(1)
    own = network()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_checked(own, state, "w.pth")
    message = str(caught.value)
    assert message.startswith("weights w.pth do not fit Sequential (3 problems)")
    for problem in (
        "missing key 0.bias",
        "unexpected key 2.weight",
        "1.weight has shape (7,), the network needs (2,)",
    ):
        assert problem in message
    assert equal(own, before)


def test_many_problems_are_cut_short() -> None:
    state = {f"layer{number}": torch.zeros(1) for number in range(30)}
    with pytest.raises(WeightsError, match=r"and 26 more$"):
        load_checked(network(), state, "w.pth")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save(network().state_dict(), whole)
    cut, text, other = (tmp_path / name for name in ("cut.pth", "text.pth", "other.pth"))
    cut.write_bytes(whole.read_bytes()[:200])
    text.write_text("not weights")
    torch.save({"epoch": 3}, other)
    for path in (cut, text):
        with pytest.raises(WeightsError, match=rf"{path.name} is damaged"):
            read_state_dict(path)
    with pytest.raises(WeightsError, match=r"other\.pth holds no state dict"):
        read_state_dict(other)
    with pytest.raises(WeightsError, match=r"absent\.pth does not exist; set `weights`"):
        read_state_dict(tmp_path / "absent.pth")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match="is damaged, or holds more than tensors"):
        read_state_dict(tmp_path / "module.pth")


def test_random_by_name_keeps_the_initial_weights() -> None:
    own = network()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    load_initial_weights(own, "random", "unused")
    assert equal(own, before)


def test_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match=r"x://w\.pth could not be fetched .*set `weights`"):
        load_initial_weights(network(), "torchvision", "x://w.pth")


def test_backbone_of_a_trained_classifier(tmp_path: Path) -> None:
    class Classifier(nn.Module):
        def __init__(self, backbone: nn.Module) -> None:
            super().__init__()
            self.backbone, self.classifier = backbone, nn.Conv2d(3, 2, 1)

    backbone = MobileNetV2(16, 0, "frozen", width=0.1)
    save_weights(tmp_path / "w.pt", Classifier(backbone), {})
    own = MobileNetV2(8, 0, "frozen", width=0.1)
    classifier_backbone(own, tmp_path / "w.pt")
    assert equal(own, backbone.state_dict())
    with pytest.raises(InputError, match="none was given"):
        classifier_backbone(own, None)
    with pytest.raises(WeightsError, match="do not fit"):
        classifier_backbone(MobileNetV2(8, 0, "frozen", width=0.2), tmp_path / "w.pt")
