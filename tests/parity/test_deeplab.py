"""Segmenters against golden/deeplab: heads, multi-scale network, losses, label resizing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from torch import Tensor, nn
from torch.nn import functional

from protoseg.segmentation import heads, losses
from protoseg.segmentation.deeplab import MAXIMUM, SCALE_NAMES, DeepLabV2, resize_logits
from protoseg.segmentation.predict import predict_probabilities

RATES = (6, 12, 18, 24)
MARGIN = 1e-4  # predictions may differ where the best two logits are closer
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # absolute, of logits
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


def load(file: Path) -> dict[str, Tensor]:
    with np.load(file) as arrays:
        return {
            name: torch.from_numpy(np.asarray(arrays[name]))
            for name in arrays.files
            if arrays[name].dtype.kind != "U"
        }


def pyramid_state(arrays: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    pattern = re.compile(rf"{prefix}branch(\d+)_(weight|bias)")
    return {
        f"branches.{match[1]}.{match[2]}": value
        for name, value in arrays.items()
        if (match := pattern.fullmatch(name))
    }


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=TOLERANCE[wanted.dtype], rtol=0)


def assert_predictions_agree(found: Tensor, wanted: Tensor, margin: Tensor) -> None:
    assert found.shape == wanted.shape
    assert not ((found != wanted) & (margin >= MARGIN)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("file", golden_files("deeplab", "aspp*.npz"))
def test_atrous_pyramid(file: Path, dtype: torch.dtype) -> None:
    arrays = load(file)
    tags = [name.removesuffix("_features") for name in arrays if name.endswith("_features")]
    assert tags
    for tag in tags:
        if (wanted := arrays.get(f"{tag}_logits_{SUFFIX[dtype]}")) is None:
            continue
        features = arrays[f"{tag}_features"].to(dtype)
        rates = arrays[f"{tag}_rates"].tolist()
        head = heads.AtrousPyramid(features.shape[1], wanted.shape[1], rates).to(dtype)
        head.load_state_dict(pyramid_state(arrays, f"{tag}_"))
        assert_close(head(features), wanted)


class Stem(nn.Module):
    """The tiny backbone of msc.npz: a strided convolution and ReLU."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        size = weight.shape[2]
        self.conv = nn.Conv2d(3, weight.shape[0], size, stride=8, padding=size // 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, functional.relu(self.conv(images))]


def msc_network(arrays: dict[str, Tensor], names: list[str], dtype: torch.dtype) -> DeepLabV2:
    weight = arrays["stem_weight"]
    scales = {name: scale for scale, name in SCALE_NAMES.items()}
    further = [scales[name] for name in names if name in scales]
    classes = arrays["branch0_weight"].shape[0]
    network = DeepLabV2(Stem(weight), weight.shape[0], classes, RATES, further)
    network.head.load_state_dict(pyramid_state(arrays))
    network.backbone.load_state_dict({"conv.weight": weight, "conv.bias": arrays["stem_bias"]})
    return network.to(dtype)


def msc_names(file: Path) -> list[str]:
    with np.load(file) as arrays:
        return [str(name) for name in arrays["scales_order"]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("file", golden_files("deeplab", "msc*.npz"))
def test_multi_scale_training(file: Path, dtype: torch.dtype) -> None:
    arrays, names, suffix = load(file), msc_names(file), SUFFIX[dtype]
    network = msc_network(arrays, names, dtype)
    logits = network(arrays["image"].to(dtype))
    assert list(logits) == names
    for name in names:
        size = (logits[name].shape[2], logits[name].shape[3])
        assert torch.equal(losses.resize_label(arrays["label"], size), arrays[f"label_{name}"])
        if (wanted := arrays.get(f"logits_{name}_{suffix}")) is not None:
            assert_close(logits[name], wanted)
    terms = losses.multi_scale_loss(logits, arrays["label"])
    found = torch.stack([terms[name] for name in [*names, "total"]]).double()
    wanted = torch.cat([arrays[f"loss_terms_{suffix}"], arrays[f"loss_{suffix}"].flatten()])
    relative = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found, wanted, rtol=relative, atol=0)
    terms["total"].backward()
    pattern = re.compile(rf"grad_(stem|branch(\d+))_(weight|bias)_{suffix}")
    gradients = [match for name in arrays if (match := pattern.fullmatch(name))]
    assert len(gradients) == sum(n.startswith("grad_") and n.endswith(suffix) for n in arrays) > 0
    for match in gradients:
        layer = f"head.branches.{match[2]}" if match[2] else "backbone.conv"
        gradient = network.get_parameter(f"{layer}.{match[3]}").grad
        assert gradient is not None
        assert_close(gradient, arrays[match[0]])


@pytest.mark.parametrize("file", golden_files("deeplab", "msc*.npz"))
def test_multi_scale_test(file: Path) -> None:
    arrays, names = load(file), msc_names(file)
    network = msc_network(arrays, names, torch.float32).eval()
    image = arrays["test_image"]
    with torch.no_grad():
        assert_close(network(image), arrays["test_logits_max"])
    size = (image.shape[2], image.shape[3])
    every_scale = (1.0, *network.train_scales)
    ways: list[tuple[Callable[[Tensor], Tensor], tuple[float, ...]]] = [
        (network, (1.0,)),
        (network.single_scale, every_scale),
    ]
    for forward, scales in ways:
        found = predict_probabilities(forward, image[0], scales, False, size, "max")
        prediction = found.argmax(0, keepdim=True).to(torch.uint8)
        assert_predictions_agree(prediction, arrays["test_prediction"], arrays["test_margin"])
    assert names[-1] == MAXIMUM


@pytest.mark.parametrize("file", golden_files("deeplab", "label_resize*.npz"))
def test_label_resize(file: Path) -> None:
    arrays = load(file)
    pairs = [match for name in arrays if (match := re.fullmatch(r"(label_\d+)_to_\d+", name))]
    assert pairs
    for match in pairs:
        wanted = arrays[match[0]]
        found = losses.resize_label(arrays[match[1]][None], (wanted.shape[0], wanted.shape[1]))
        assert torch.equal(found[0], wanted)


LARGE_FOV = {
    "batchnorm": heads.large_fov_batchnorm,
    "caffe": heads.large_fov_caffe,
    "dil5": heads.large_fov_dilation5,
}


@pytest.mark.parametrize("form", LARGE_FOV)
@pytest.mark.parametrize("file", golden_files("deeplab", "largefov*.npz"))
def test_large_fov(file: Path, form: str) -> None:
    arrays = load(file)
    features = arrays["features"]
    pattern = re.compile(
        rf"{form}_(fov\d_conv|fov\d_norm|classifier)_(weight|bias|running_mean|running_var)"
    )
    state = {f"{m[1]}.{m[2]}": v for n, v in arrays.items() if (m := pattern.fullmatch(n))}
    classes, width = state["classifier.weight"].shape[:2]
    head = LARGE_FOV[form](features.shape[1], classes, width)
    problems = head.load_state_dict(state, strict=False)
    assert not problems.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in problems.missing_keys)
    with torch.no_grad():
        logits = head.eval()(features)
    wanted = arrays[f"{form}_logits" if form == "dil5" else f"{form}_logits_lowres"]
    assert_close(logits, wanted)
    if f"{form}_prediction_up" not in arrays:
        return
    size = arrays["output_size"].tolist()
    upsampled = resize_logits(logits, (size[0], size[1]), align_corners=True)
    part = arrays[f"{form}_logits_up_crop"]
    found = upsampled[:, :, : part.shape[2], -part.shape[3] :]
    assert_close(found, part)
    best, second = upsampled.topk(2, dim=1).values.unbind(1)
    prediction = upsampled.argmax(1).to(torch.uint8)
    assert_predictions_agree(prediction, arrays[f"{form}_prediction_up"], best - second)


@pytest.mark.parametrize("file", golden_files("deeplab", "balanced_losses*.npz"))
def test_balanced_losses(file: Path) -> None:
    arrays = load(file)
    label = arrays["label"]

    def value_and_gradient(loss: losses.SegmentationLoss) -> tuple[float, Tensor]:
        logits = arrays["logits"].clone().requires_grad_()
        value = loss(logits, label)
        (gradient,) = torch.autograd.grad(value, logits)
        return value.item(), gradient

    def close(value: float, wanted: Tensor) -> None:
        assert value == pytest.approx(float(wanted), rel=1e-5)

    close(value_and_gradient(losses.LOSSES["cross_entropy"])[0], arrays["plain_ce_loss"])
    value, gradient = value_and_gradient(losses.LOSSES["balanced"])
    close(value, arrays["batch_balanced_loss"])
    torch.testing.assert_close(gradient, arrays["batch_balanced_grad"], rtol=1e-4, atol=1e-7)
    value, gradient = value_and_gradient(losses.LOSSES["dsrg"])
    terms = [*losses.dsrg_terms(arrays["logits"], label), torch.tensor(value)]
    for found, wanted in zip(terms, arrays["dsrg_loss_terms"], strict=True):
        close(float(found), wanted)
    torch.testing.assert_close(gradient, arrays["dsrg_grad"], rtol=1e-4, atol=1e-7)
    probabilities = losses.dsrg_probabilities(arrays["logits"])
    torch.testing.assert_close(probabilities, arrays["dsrg_probabilities"], rtol=1e-5, atol=1e-7)
