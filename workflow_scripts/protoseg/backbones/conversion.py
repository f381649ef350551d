"""Weights of other frameworks' conversions: a file with foreign keys -> a loaded backbone.

In: a file in one of `FORMATS`. Out: the backbone of that format with its weights. Layers that
classify are left out; every other key must be known and none may be missing.

- ``caffe_deeplab``: initial weights of DeepLabV2, ResNet-101, as a PyTorch state dict whose keys
  are torchvision's behind an optional `Scale.`, with the pyramid as `layer5` (such as
  `Scale.conv1.weight`, `Scale.layer2.0.bn1.running_mean`, `Scale.layer5.conv2d_list.0.bias`).
  They expect Caffe's images, BGR in 0 to 255 without the mean; the first layer is rewritten for
  the images here.
- ``mxnet_resnet38``: ResNet-38 (model A1) in the names of its MXNet release, as .npz: `arg:` and
  `aux:` before `conv1a_weight`, `res2a_branch1_weight`, `bn2b1_branch2a_moving_mean`, `bn7_gamma`.
  Its images are normalised as here.

Source: DeepLabV2's published training files (channel means); Wu et al., "Wider or Deeper" (2016)
and its released symbols (names of layers).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from protoseg.backbones.weights import WeightsError, load_checked, read_state_dict
from protoseg.data.images import MEAN, STD

CAFFE_MEAN = (122.675, 116.669, 104.008)  # of R, G, B in 0 to 255
CAFFE_HEADS = ("layer5.", "fc.")
MXNET_KEY = re.compile(r"(?:arg:|aux:)?(\w+?)_(weight|bias|gamma|beta|moving_mean|moving_var)")
MXNET_BLOCK = re.compile(r"(res|bn)(\d)(?:a|b(\d))_(branch\w+)")
MXNET_LAYERS = {"res": "conv", "bn": "bn"}
MXNET_PARAMETERS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


@dataclass(frozen=True)
class ForeignFormat:
    """One format.

    Attributes:
        backbone: name of the backbone that its files initialise.
        read: file -> tensors by foreign key.
        rename: foreign key -> key here; None for layers that classify, an unknown key as it is.
        finish: changes the loaded network for the images here, in place.
    """

    backbone: str
    read: Callable[[Path], dict[str, Tensor]]
    rename: Callable[[str], str | None]
    finish: Callable[[nn.Module], None]


def load_foreign(network: nn.Module, path: Path, form: ForeignFormat) -> None:
    """Load ``path`` into ``network``, the backbone of ``form``, in place.

    Raises:
        WeightsError: no such file, another form, or keys that are missing, unknown or misshapen.
    """
    named = {form.rename(key): value for key, value in form.read(path).items()}
    load_checked(network, {key: value for key, value in named.items() if key}, str(path))
    form.finish(network)


def caffe_name(key: str) -> str | None:
    """torchvision's key for one of a DeepLabV2 conversion; None for its pyramid."""
    key = key.removeprefix("Scale.")
    return None if key.startswith(CAFFE_HEADS) else key


@torch.no_grad()
def take_normalized_rgb(network: nn.Module) -> None:
    """Rewrite conv1 and bn1, made for Caffe's images, for RGB with ImageNet's mean and deviation.

    A Caffe channel is 255 (STD n + MEAN) - CAFFE_MEAN for n here. The factor goes into conv1; the
    constant passes through it, but for the padded border, and bn1's mean takes it.
    """
    conv, norm = network.get_submodule("conv1"), network.get_submodule("bn1")
    weight, mean = conv.get_parameter("weight"), norm.get_buffer("running_mean")
    rgb = weight.flip(1)  # [O, 3, k, k]
    factor, centre, caffe = (torch.tensor(values).to(rgb) for values in (STD, MEAN, CAFFE_MEAN))
    mean -= rgb.sum((2, 3)) @ (255 * centre - caffe)
    weight.copy_(rgb * (255 * factor).view(1, 3, 1, 1))


def read_npz(path: Path) -> dict[str, Tensor]:
    """Arrays of an .npz file as tensors, by name; raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; name a file that does")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise WeightsError(
            f"weights file {path} is no .npz of numbers ({error}); save MXNet's arrays with "
            "numpy.savez under their names"
        ) from error


def mxnet_name(key: str) -> str | None:
    """WideResNet38's key for one of the MXNet release; None for its classifier."""
    found = MXNET_KEY.fullmatch(key)
    if found is None:
        return key
    layer, parameter = found.groups()
    if layer.startswith("linear"):
        return None
    if block := MXNET_BLOCK.fullmatch(layer):
        kind, level, number, branch = block.groups()
        place = f"b{level}_{number}" if number else f"b{level}"
        layer = f"{place}.{MXNET_LAYERS[kind]}_{branch}"
    return f"{layer}.{MXNET_PARAMETERS.get(parameter, parameter)}"


def leave(network: nn.Module) -> None:
    """Nothing to finish: the images are those here."""


FORMATS = {
    "caffe_deeplab": ForeignFormat("resnet101", read_state_dict, caffe_name, take_normalized_rgb),
    "mxnet_resnet38": ForeignFormat("wide_resnet38", read_npz, mxnet_name, leave),
}
