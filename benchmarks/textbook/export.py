"""Export of SIPE's maps as the published code does it: one image at a time, full-size maps in .npy.

In: a network, an image, its label. Out: a file with the maps of background and present classes,
float32 at the size of the image. Source: SIPE section 4.1 and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from protoseg.data.images import normalize
from textbook.prototypes import maps_with_background, prototype_maps, structure_seeds

SIDES = (128, 128, 256, 256)


class Network(nn.Module):
    """A network in five stages, a classifier on the last, side branches on the last four.

    Args:
        stages: stem and layer1 to layer4. widths: channels of layer1 to layer4.
    """

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.classifier = nn.Conv2d(widths[-1], classes, 1, bias=False)
        pairs = zip(widths, SIDES, strict=True)
        self.sides = nn.ModuleList(nn.Conv2d(source, side, 1, bias=False) for source, side in pairs)

    def forward(self, pair: Tensor, label: Tensor) -> Tensor:
        """IS-CAM [1, K+1, h, w] of an image and its mirror [2, 3, H, W], label [K]."""
        layers = [self.stages[0](pair)]
        for stage in list(self.stages)[1:]:
            layers.append(stage(layers[-1]))
        logits = both(self.classifier(layers[-1]))
        hierarchical = both(self.hierarchical(layers[1:]))
        keep = functional.pad(label, (1, 0), value=1.0).view(1, -1, 1, 1)
        seeds = structure_seeds(maps_with_background(logits), hierarchical) * keep
        return prototype_maps(hierarchical, seeds)

    def parts(self) -> list[nn.Module]:
        """Stages, classifier and side branches, in this order."""
        return [*self.stages, self.classifier, self.sides]

    def hierarchical(self, layers: Sequence[Tensor]) -> Tensor:
        """Unit side features, resized to layer3's grid and concatenated, [B, 768, h, w]."""
        found = []
        for layer, branch in zip(layers, self.sides, strict=True):
            side = branch(layer)
            side = side / (side.norm(dim=1, keepdim=True) + 1e-5)
            found.append(functional.interpolate(side, layers[2].shape[2:], mode="bilinear"))
        return torch.cat(found, dim=1)


def both(pair: Tensor) -> Tensor:
    """Features of an image, plus those of its mirror turned back: B = 2 -> B = 1."""
    return pair[:1] + pair[1:].flip(-1)


def resnet50(classes: int) -> Network:
    """ResNet-50 at output stride 16, random weights."""
    source = models.resnet50(weights=None)
    source.layer4[0].conv2.stride = source.layer4[0].downsample[0].stride = (1, 1)
    stem = nn.Sequential(source.conv1, source.bn1, source.relu, source.maxpool)
    layers = [source.layer1, source.layer2, source.layer3, source.layer4]
    return Network([stem, *layers], (256, 512, 1024, 2048), classes)


def mobilenet_v2(classes: int) -> Network:
    """MobileNetV2 at output stride 16, random weights."""
    features = models.mobilenet_v2(weights=None).features
    features[14].conv[1][0].stride = (1, 1)
    bounds = ((0, 2), (2, 4), (4, 7), (7, 14), (14, 19))
    return Network([features[start:end] for start, end in bounds], (24, 32, 96, 1280), classes)


@torch.no_grad()
def export(
    network: Network, image: Image.Image, label: Tensor, scales: Sequence[float], path: Path
) -> None:
    """Write ``path``: a dictionary of the class ids and their maps [n, H, W], pickled.

    Args:
        label: [K] image-level labels, 0 or 1.
    """
    size = (image.height, image.width)
    total = torch.zeros(1, len(label) + 1, *size)
    for scale in scales:
        target = (int(np.round(image.width * scale)), int(np.round(image.height * scale)))
        pixels = normalize(np.asarray(image.resize(target, Image.Resampling.BICUBIC)))
        maps = network(torch.stack([pixels, pixels.flip(-1)]), label)
        total += functional.interpolate(maps, size, mode="bilinear")
    total = total / (functional.adaptive_max_pool2d(total, 1) + 1e-5)
    kept = torch.cat([torch.zeros(1, dtype=torch.long), label.nonzero()[:, 0] + 1])
    saved = {"classes": kept.numpy(), "maps": total[0, kept].numpy()}
    np.save(path, np.array(saved))
