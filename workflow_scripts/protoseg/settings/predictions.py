"""Settings of the stages that read a trained segmenter: predictions, and denseCRF on them.

Defaults are those of DeepLabV2's published code; `presets` has the other recipes.
"""

from __future__ import annotations

from dataclasses import dataclass

from protoseg.settings.classifier import PRECISIONS
from protoseg.settings.fields import setting


@dataclass(frozen=True)
class PredictionsSettings:
    """Stage `predict`: the segmenter on `val_list`, without denseCRF."""

    scales: tuple[float, ...] = setting(
        [0.5, 0.75, 1.0], "Image scales.", items={"exclusiveMinimum": 0}, minItems=1
    )
    flip: bool = setting(False, "Average with the mirrored image.")
    fusion: str = setting("max", "Of the scales' logits.", enum=["max", "mean"])
    align_corners: bool = setting(
        False,
        "Logits are enlarged by half-pixel centres (DeepLabV2's code), or from corner to corner "
        "(the published code of LargeFOV).",
    )
    minimum_probability: float = setting(
        0.01,
        "Classes that nowhere exceed it in an image take no part in its denseCRF: 2.1 times "
        "faster, 2e-6 of pixels change.",
        minimum=0,
        maximum=1,
    )
    precision: str = setting("float32", "Arithmetic of the network.", enum=PRECISIONS)


@dataclass(frozen=True)
class PredictionsCRFSettings:
    """Stage `refine_predictions`: denseCRF on the segmenter's probabilities, where asked for."""

    iterations: int = setting(10, "Mean-field updates.", minimum=0)
    gaussian_sxy: float = setting(1.0, "Pixels, smoothness kernel.", exclusiveMinimum=0)
    gaussian_weight: float = setting(3.0, "Weight of the smoothness kernel.", minimum=0)
    bilateral_sxy: float = setting(67.0, "Pixels, appearance kernel.", exclusiveMinimum=0)
    bilateral_srgb: float = setting(3.0, "Grey levels, appearance kernel.", exclusiveMinimum=0)
    bilateral_weight: float = setting(4.0, "Weight of the appearance kernel.", minimum=0)
