"""How a segmenter is optimised: a `Segmenter` and the base rate in, parameter groups for SGD out.

Source: DeepLabV2's published code (Caffe's multipliers: backbone weights 1, head weights 10, head
biases 20 without weight decay).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from protoseg.segmentation.deeplab import Segmenter

HEAD_WEIGHT_MULTIPLE = 10.0
HEAD_BIAS_MULTIPLE = 20.0
NORM_LAYERS = (nn.BatchNorm2d, nn.GroupNorm)


def parameter_groups(
    network: Segmenter,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    *,
    train_norms: bool = False,
) -> list[dict[str, Any]]:
    """SGD groups in the published order: backbone, head weights, head biases; empty ones left out.

    The backbone's normalisation layers are handed to no group, so their scales and shifts stay
    (published setting, which freezes their statistics too). Those of a head are new and train.

    Args:
        learning_rate: of the backbone; the head's weights take 10 times, its biases 20 times it.
        weight_decay: of all but the head's biases.
        train_norms: puts the backbone's normalisation layers into its group, for networks that
            start from random weights.

    Returns:
        Dictionaries with `params`, `lr`, `weight_decay` and `momentum`.
    """
    layers = (nn.Conv2d, nn.Linear, *NORM_LAYERS) if train_norms else (nn.Conv2d, nn.Linear)
    backbone = [
        parameter
        for module in network.backbone.modules()
        if isinstance(module, layers)
        for parameter in module.parameters(recurse=False)
    ]
    head = list(network.head.named_parameters())
    biases = [parameter for name, parameter in head if name.rpartition(".")[2] == "bias"]
    weights = [parameter for name, parameter in head if name.rpartition(".")[2] != "bias"]
    groups = [
        {"params": backbone, "lr": learning_rate, "weight_decay": weight_decay},
        {
            "params": weights,
            "lr": HEAD_WEIGHT_MULTIPLE * learning_rate,
            "weight_decay": weight_decay,
        },
        {"params": biases, "lr": HEAD_BIAS_MULTIPLE * learning_rate, "weight_decay": 0.0},
    ]
    return [group | {"momentum": momentum} for group in groups if group["params"]]
