"""The frozen backbone with the affinity branches on it: images [B, 3, H, W] -> fields at stride 4.

Source: IRN section 4 (published code): an ImageNet classifier that never trains under two branches.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.affinity.network import AffinityFields, AffinityNetwork
from protoseg.affinity.walk import edge_probability, grid_size
from protoseg.backbones import build_backbone
from protoseg.backbones.folding import for_evaluation
from protoseg.backbones.transfer import classifier_backbone
from protoseg.settings.fields import from_mapping
from protoseg.settings.schema import AffinitySettings
from protoseg.training.checkpoint import load_weights
from protoseg.training.precision import autocast

STRIDE = 16  # the deepest; images are padded to a multiple of it, the fields cut afterwards


class AffinityModel(nn.Module):
    """Backbone (no gradient) and branches."""

    def __init__(self, settings: AffinitySettings, weights: str) -> None:
        super().__init__()
        self.crop = settings.crop
        self.backbone = build_backbone(settings.backbone, weights, frozen_stages=4)
        self.branches = AffinityNetwork(
            self.backbone.widths, self.backbone.strides, settings.displacement
        )

    def forward(self, images: Tensor) -> AffinityFields:
        return self.branches(self.backbone(images))

    @torch.inference_mode()
    def edge(self, image: Tensor, precision: str, pad_to_crop: bool) -> Tensor:
        """Edge map [ceil(H / 4), ceil(W / 4)] float64 of an image [3, H, W] of any size.

        ``pad_to_crop``: sides below the training's crop are padded to it, as in training.
        """
        grid = grid_size((image.shape[1], image.shape[2]))
        least = self.crop if pad_to_crop else 0
        bottom, right = (-(-max(side, least) // STRIDE) * STRIDE - side for side in image.shape[1:])
        pair = functional.pad(torch.stack([image, image.flip(-1)]), (0, right, 0, bottom))
        with autocast(image.device, precision):
            logits = self(pair.contiguous(memory_format=torch.channels_last)).edge_logits
        return edge_probability(logits, grid)


def new_model(settings: AffinitySettings, classifier: Path | None) -> AffinityModel:
    """Model with initial weights; ``classifier`` is the file of stage 1, where it is asked for."""
    if settings.weights != "classifier":
        return AffinityModel(settings, settings.weights)
    model = AffinityModel(settings, "random")
    classifier_backbone(model.backbone, classifier)
    return model


def load_model(path: Path, device: torch.device) -> AffinityModel:
    """Trained model for evaluation alone."""
    state, about = load_weights(path)
    model = AffinityModel(from_mapping(AffinitySettings, about["settings"]), "random")
    model.load_state_dict(state)
    return for_evaluation(model, device)


def describe(settings: AffinitySettings, seed: int) -> dict[str, Any]:
    """What a weights file says about its model."""
    return {"settings": asdict(settings), "seed": seed}
