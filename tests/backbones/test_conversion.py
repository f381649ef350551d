"""Weights with foreign keys: they load as `weights: path`, compute the same, or are refused."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.resnet import Bottleneck

import convert_weights as script
from protoseg.backbones import BACKBONES, build_backbone
from protoseg.backbones.backbone import BackboneSpec
from protoseg.backbones.base import BatchNormMode
from protoseg.backbones.conversion import FORMATS, mxnet_name
from protoseg.backbones.resnet import ResNet
from protoseg.backbones.weights import WeightsError
from protoseg.backbones.wide_resnet38 import WideResNet38
from protoseg.data.images import normalize

WIDTH = 1 / 32


def one_block_each(weights: None) -> models.ResNet:
    return models.ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=1)


def small_resnet(stride: int, frozen: int, mode: BatchNormMode) -> ResNet:
    return ResNet(one_block_each, stride, frozen, mode)


def small_wide_resnet(stride: int, frozen: int, mode: BatchNormMode) -> WideResNet38:
    return WideResNet38(stride, frozen, mode, width=WIDTH)


@pytest.fixture(autouse=True)
def _small_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "resnet101", BackboneSpec(small_resnet))
    monkeypatch.setitem(BACKBONES, "wide_resnet38", BackboneSpec(small_wide_resnet))


def random_state(network: nn.Module) -> dict[str, Tensor]:
    """A state without counters, as old files are, each tensor with other numbers."""
    torch.manual_seed(0)
    state = network.state_dict()
    return {k: torch.rand_like(v) for k, v in state.items() if not k.endswith("tracked")}


def convert(name: str, source: Path, output: Path) -> None:
    script.main(Namespace(format=name, input=source, output=output))


def write_caffe(path: Path, prefix: str, changes: dict[str, Tensor]) -> dict[str, Tensor]:
    state = random_state(small_resnet(8, 0, "frozen"))
    head = {"layer5.conv2d_list.0.bias": torch.zeros(3), "fc.weight": torch.zeros(3, 4)}
    torch.save({prefix + key: v for key, v in (state | head | changes).items()}, path)
    return state


def mxnet_key(key: str) -> str:
    """The release's name of a key here, written by its rules."""
    module, _, parameter = key.rpartition(".")
    block, _, layer = module.partition(".")
    kind = "aux:" if parameter.startswith("running") else "arg:"
    parameter = parameter.replace("running", "moving")
    if "bn" in module:
        parameter = {"weight": "gamma", "bias": "beta"}.get(parameter, parameter)
    if not layer:
        return f"{kind}{module}_{parameter}"
    level, _, number = block.removeprefix("b").partition("_")
    place = f"{level}b{number}" if number else f"{level}a"
    what, _, branch = layer.partition("_")
    return f"{kind}{what.replace('conv', 'res')}{place}_{branch}_{parameter}"


def write_mxnet(path: Path, without: str = "", **more: np.ndarray) -> dict[str, Tensor]:
    state = random_state(small_wide_resnet(8, 0, "frozen"))
    arrays = {mxnet_key(key): value.numpy() for key, value in state.items() if key != without}
    head = {"arg:linear1000_weight": np.zeros((9, 4)), "arg:linear1000_bias": np.zeros(9)}
    np.savez(path, **arrays, **head, **more)  # type: ignore[arg-type]
    return state


@pytest.mark.parametrize("prefix", ["Scale.", ""])
def test_deeplab_file_loads_as_weights(tmp_path: Path, prefix: str) -> None:
    source, output = tmp_path / "init.pth", tmp_path / "converted.pth"
    state = write_caffe(source, prefix, {})
    convert("caffe_deeplab", source, output)
    found = build_backbone("resnet101", str(output), output_stride=8).state_dict()
    changed = {key for key, value in state.items() if not torch.equal(found[key], value)}
    assert changed == {"conv1.weight", "bn1.running_mean"}


def test_first_layer_gives_what_it_gave_for_caffes_images(tmp_path: Path) -> None:
    source, output = tmp_path / "init.pth", tmp_path / "converted.pth"
    state = write_caffe(source, "Scale.", {})
    convert("caffe_deeplab", source, output)
    network = build_backbone("resnet101", str(output), output_stride=8).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 26, 3), np.uint8)
    bgr = pixels[..., ::-1].astype(np.float64) - (104.008, 116.669, 122.675)
    image = torch.from_numpy(bgr).permute(2, 0, 1)[None]
    old = {key: value.double() for key, value in state.items()}
    mean, variance, scale, shift = (
        old[f"bn1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
    )
    expected = functional.conv2d(image, old["conv1.weight"], stride=2, padding=3)
    expected = functional.batch_norm(expected, mean, variance, scale, shift)
    ours = normalize(pixels)[None].double()
    first = nn.Sequential(network.get_submodule("conv1"), network.get_submodule("bn1")).double()
    inner = (..., slice(2, -2), slice(2, -2))  # the border is padded with another grey
    torch.testing.assert_close(first(ours)[inner], expected[inner], atol=1e-3, rtol=1e-5)


def test_mxnet_file_loads_as_weights(tmp_path: Path) -> None:
    source, output = tmp_path / "resnet38.npz", tmp_path / "converted.pth"
    state = write_mxnet(source)
    convert("mxnet_resnet38", source, output)
    found = build_backbone("wide_resnet38", str(output), output_stride=8).state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("foreign", "name"),
    [
        ("arg:conv1a_weight", "conv1a.weight"),
        ("arg:res2a_branch1_weight", "b2.conv_branch1.weight"),
        ("arg:res4b5_branch2b1_weight", "b4_5.conv_branch2b1.weight"),
        ("arg:bn5b1_branch2a_gamma", "b5_1.bn_branch2a.weight"),
        ("bn6a_branch2b2_beta", "b6.bn_branch2b2.bias"),
        ("aux:bn7_moving_var", "bn7.running_var"),
        ("arg:linear1000_bias", None),
        ("arg:other", "arg:other"),
    ],
)
def test_names_of_the_mxnet_release(foreign: str, name: str | None) -> None:
    assert mxnet_name(foreign) == name


def test_missing_and_unknown_keys_are_one_error(tmp_path: Path) -> None:
    source, output = tmp_path / "resnet38.npz", tmp_path / "converted.pth"
    write_mxnet(source, without="b3_1.bn_branch2a.bias", **{"arg:extra_thing": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"do not fit WideResNet38 \(2 problems\)") as error:
        convert("mxnet_resnet38", source, output)
    assert "missing key b3_1.bn_branch2a.bias" in str(error.value)
    assert "unexpected key arg:extra_thing" in str(error.value)
    wrong = {"layer6.weight": torch.zeros(1), "conv1.weight": torch.zeros(1)}
    write_caffe(source, "Scale.", wrong)
    with pytest.raises(WeightsError, match=r"\(2 problems\)") as error:
        convert("caffe_deeplab", source, output)
    assert "unexpected key layer6.weight" in str(error.value)
    assert "conv1.weight has shape (1,)" in str(error.value)
    assert not output.exists()


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    source, output = tmp_path / "resnet38.params", tmp_path / "converted.pth"
    with pytest.raises(WeightsError, match=r"resnet38\.params does not exist"):
        convert("mxnet_resnet38", source, output)
    source.write_bytes(b"\x12\x01\0\0 MXNet's own")
    with pytest.raises(WeightsError, match=r"is no \.npz of numbers"):
        convert("mxnet_resnet38", source, output)
    with source.open("wb") as stream:
        np.save(stream, np.zeros(2))
    with pytest.raises(WeightsError, match=r"is no \.npz of numbers"):
        convert("mxnet_resnet38", source, output)
    np.savez(tmp_path / "objects.npz", key=np.array({"a": 1}, dtype=object))
    with pytest.raises(WeightsError, match=r"is no \.npz of numbers"):
        convert("mxnet_resnet38", tmp_path / "objects.npz", output)
    with pytest.raises(WeightsError, match="no format 'caffe'; known: caffe_deeplab, mxnet"):
        convert("caffe", source, output)


def test_every_known_file_stands_in_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = (Path(__file__).resolve().parents[2] / "docs" / "weights.md").read_text()
    files = {spec.url.rpartition("/")[2] or spec.file.split()[0] for spec in BACKBONES.values()}
    assert len(files) == len(BACKBONES)
    rows = set(re.findall(r"^\| `(\S+)` \|", text, re.MULTILINE))
    assert files <= rows
    prefixes = dict(re.findall(r"^\| `(\S+-([0-9a-f]{8})\.pth)` \| torchvision \|", text, re.M))
    for file, prefix in prefixes.items():
        assert re.search(rf"^\| `{file}` .*\| `{prefix}` \|$", text, re.MULTILINE)
    assert {name for name in FORMATS if f"--format {name}" in text} == set(FORMATS)
