"""Backbones by name: ``build_backbone(name, weights)`` gives a `Backbone`.

In: a name of `BACKBONES` and initial weights. Out: the network as five named stages, see `base`.
Backbones of torchvision load torchvision's weights by name, the others from a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision import models

from protoseg.backbones.base import Backbone, BatchNormMode
from protoseg.backbones.mobilenet import MobileNetV2
from protoseg.backbones.resnet import ResNet
from protoseg.backbones.weights import WeightsError, load_initial_weights
from protoseg.backbones.wide_resnet38 import WideResNet38
from protoseg.backbones.xception import Xception


@dataclass(frozen=True)
class BackboneSpec:
    """How to build a backbone, and where its ImageNet weights are.

    Attributes:
        build: (output stride, frozen stages, batch norm mode) -> backbone with random weights.
        url: torchvision's file, empty where torchvision has none.
        file: name of a published file that loads, where torchvision has none.
    """

    build: Callable[[int, int, BatchNormMode], Backbone]
    url: str = ""
    file: str = ""


def _url(builder: Callable[..., nn.Module]) -> str:
    return models.get_model_weights(builder)["IMAGENET1K_V1"].url


def _resnet(builder: Callable[..., models.ResNet]) -> BackboneSpec:
    return BackboneSpec(partial(ResNet, builder), _url(builder))


BACKBONES: dict[str, BackboneSpec] = {
    "resnet18": _resnet(models.resnet18),
    "resnet50": _resnet(models.resnet50),
    "resnet101": _resnet(models.resnet101),
    "resnext50_32x4d": _resnet(models.resnext50_32x4d),
    "resnext101_32x8d": _resnet(models.resnext101_32x8d),
    "wide_resnet50_2": _resnet(models.wide_resnet50_2),
    "wide_resnet101_2": _resnet(models.wide_resnet101_2),
    "mobilenet_v2": BackboneSpec(MobileNetV2, _url(models.mobilenet_v2)),
    "xception": BackboneSpec(Xception, file="xception-43020ad28.pth of timm"),
    "wide_resnet38": BackboneSpec(
        WideResNet38, file="ilsvrc-cls_rna-a1_cls1000_ep-0001.pth of SEAM"
    ),
}


def build_backbone(
    name: str,
    weights: str,
    *,
    output_stride: int = 16,
    frozen_stages: int = 2,
    batch_norm: BatchNormMode = "frozen",
) -> Backbone:
    """Backbone ``name`` with initial ``weights`` (``random``, ``torchvision`` or a file path).

    Raises:
        KeyError: unknown name. ValueError: output stride other than 8, 16 or 32.
        WeightsError: weights that do not fit, cannot be read, or that torchvision does not have.
    """
    if name not in BACKBONES:
        raise KeyError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    if weights == "torchvision" and not spec.url:
        raise WeightsError(
            f"torchvision has no weights of {name}; set `weights` to a file, such as {spec.file}"
        )
    backbone = spec.build(output_stride, frozen_stages, batch_norm)
    load_initial_weights(backbone, weights, spec.url)
    return backbone
