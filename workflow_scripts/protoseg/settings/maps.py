"""The settings of stage 1's maps: how a trained classifier is read, and how its maps are scored."""

from __future__ import annotations

from dataclasses import dataclass

from protoseg.settings.classifier import PRECISIONS, SEED_RULES
from protoseg.settings.fields import setting


@dataclass(frozen=True)
class MapsSettings:
    """Stage `export_maps`: multi-scale localization maps of the present classes."""

    source: str = setting(
        "auto",
        "`cam`: the classifier's maps; `prototypes`: IS-CAM; `auto`: IS-CAM where prototypes are "
        "the image's own.",
        enum=["auto", "cam", "prototypes"],
    )
    scales: tuple[float, ...] = setting(
        [1.0, 0.5, 1.5, 2.0],
        "Image scales, each with its mirror (published).",
        items={"exclusiveMinimum": 0},
        minItems=1,
    )
    seeds: str = setting(
        "structure",
        "Image prototypes: seed rule at inference.",
        enum=SEED_RULES,
    )
    seed_threshold: float = setting(
        0.3, "SIPE: score of the background for seeds by `threshold`.", minimum=0, maximum=1
    )
    structure_feature: str = setting(
        "hierarchical",
        "SIPE: feature of the structure similarity at inference (published code).",
        enum=["semantic", "hierarchical"],
    )
    background_factor: float = setting(
        0.5,
        "SIPE: multiplies the background's similarity at inference (code). The right value grows "
        "with fewer classes: `sweep_background_factor` shows it.",
        minimum=0,
    )
    class_prototype_share: float = setting(
        0.0,
        "Image prototypes: share of the class's mean prototype over training images in each "
        "image's own. 0 in all papers; above it the maps take another pass over some images first.",
        minimum=0,
        maximum=1,
    )
    class_prototype_images: int = setting(
        100,
        "Class prototypes: images drawn for each class. A class is averaged over all drawn images "
        "that show it, so over as many or more.",
        minimum=1,
    )
    normalize_scales: bool = setting(
        False,
        "Prototypes: normalise the maps of each scale before the sum over scales, by "
        "`classifier.refinement_normalization`. SIPE's code does not, AE-SIPE's does.",
    )
    evaluation_background_factor: float = setting(
        1.0,
        "Maps with a background map: its factor where the fused maps are scored. AE-SIPE has 0.8 "
        "here and in `pseudo_labels.ir_background_factor`.",
        minimum=0,
    )
    precision: str = setting("float32", "Arithmetic of the backbone.", enum=PRECISIONS)
