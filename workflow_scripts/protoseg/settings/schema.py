"""The settings of every stage: names, defaults, limits and meaning.

The only place that holds defaults. Groups are in the order of the flow; an experiment overrides
single keys of them. Defaults are the papers' VOC 2012 setups as the published code runs them;
where paper and code differ, the text says which one the default follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from protoseg.settings.classifier import (
    BACKBONE_NAMES,
    COMPILE_NOTE,
    MOMENTUM_NOTE,
    PRECISIONS,
    ClassifierSettings,
)
from protoseg.settings.fields import setting
from protoseg.settings.maps import MapsSettings
from protoseg.settings.predictions import PredictionsCRFSettings, PredictionsSettings


@dataclass(frozen=True)
class DatasetSettings:
    """Where images, tags and masks come from; read by `index_dataset` alone."""

    name: str = setting("demo", "Name of the data set; the first folder under results/.")
    kind: str = setting(
        "demo",
        "`voc`: the VOC 2012 folder layout at `root`. `demo`: the same, drawn at `root` first. "
        "`coco`: COCO 2014, its lists are `train` and `val`. `folder`: your own images and a table "
        "of their labels (README: your own images).",
        enum=["voc", "demo", "coco", "folder"],
    )
    root: str = setting("data/demo", "Folder of the data set, from the working directory.")
    classes: tuple[str, ...] = setting(
        [],
        "Foreground classes in order; empty takes all (20 of VOC, 80 of COCO). Others' pixels "
        "become 255.",
    )
    keep_unlabelled: bool = setting(
        False, "Keep images without any of the classes, as examples of none."
    )
    masks: str = setting(
        "auto",
        "VOC: folder of the masks; `auto` takes an image's own in SegmentationClass where there is "
        "one, else that in SegmentationClassAug.",
        enum=["auto", "SegmentationClass", "SegmentationClassAug"],
    )
    coco_painting: str = setting(
        "annotation_order",
        "COCO: what masks show where objects overlap: the later annotation, crowds left out, or "
        "the smaller one, crowds included. Scores differ.",
        enum=["annotation_order", "smaller_on_top"],
    )
    train_list: str = setting(
        "train_aug",
        "Images that the classifier trains on. Lists may be expressions: `train_aug[500]` takes "
        "500 evenly spaced ids, `a + b` the union, `a - b` the difference, `(a + b)[500]` both.",
    )
    labels_list: str = setting(
        "train_aug", "Images that get pseudo labels, and on which the later networks train."
    )
    maps_list: str = setting(
        "train", "Images on which maps, pseudo labels and refined labels are scored."
    )
    val_list: str = setting("val", "Images on which the segmenter predicts and is scored.")
    test_list: str = setting(
        "",
        "Images without annotations: `snakemake test_predictions` predicts on them, `snakemake "
        "submission` also packs the archive for VOC's server. Not for COCO. Empty: none.",
    )
    demo_train_images: int = setting(240, "Demo: images to draw for training.", minimum=20)
    demo_val_images: int = setting(60, "Demo: images to draw for validation.", minimum=4)
    demo_size: int = setting(128, "Demo: longest side in pixels.", minimum=64)
    demo_seed: int = setting(0, "Demo: seed of the drawing.", minimum=0)


@dataclass(frozen=True)
class PseudoLabelsSettings:
    """Stage `make_pseudo_labels`: denseCRF on the maps."""

    foreground_threshold: float = setting(
        0.30, "Maps without a background map: its score in the foreground pass (IRN).", minimum=0
    )
    background_threshold: float = setting(
        0.05, "Maps without a background map: its score in the background pass (IRN).", minimum=0
    )
    background_factor: float = setting(
        1.0, "Maps with a background map: its factor in the foreground pass (SIPE).", minimum=0
    )
    ir_background_factor: float = setting(
        0.5, "Maps with a background map: its factor in the background pass (SIPE).", minimum=0
    )
    scored_pass: str = setting(
        "foreground",
        "Pass whose labels are scored, and train a segmenter without a walk: `foreground` (IRN, "
        "SIPE) or `background` (AE-SIPE, with `ir_background_factor` 0.8).",
        enum=["foreground", "background"],
    )
    confidence: float = setting(
        0.7,
        "Probability of a hard label in the unary term.",
        exclusiveMinimum=0,
        exclusiveMaximum=1,
    )
    iterations: int = setting(10, "Mean-field updates; 0 skips the CRF.", minimum=0)
    gaussian_sxy: float = setting(3.0, "Pixels, smoothness kernel.", exclusiveMinimum=0)
    gaussian_weight: float = setting(3.0, "Weight of the smoothness kernel.", minimum=0)
    bilateral_sxy: float = setting(50.0, "Pixels, appearance kernel.", exclusiveMinimum=0)
    bilateral_srgb: float = setting(5.0, "Grey levels, appearance kernel.", exclusiveMinimum=0)
    bilateral_weight: float = setting(10.0, "Weight of the appearance kernel.", minimum=0)


@dataclass(frozen=True)
class AffinitySettings:
    """Stage `train_affinity`: IRN's boundary (and displacement) branches."""

    backbone: str = setting("resnet50", "Frozen backbone under the branches.", enum=BACKBONE_NAMES)
    weights: str = setting(
        "torchvision",
        "Its weights: `torchvision`, `random`, a file, or `classifier` (those of stage 1).",
    )
    epochs: int = setting(3, "Passes over the training list.", minimum=1)
    batch_size: int = setting(32, "Images per step over all GPUs.", minimum=1)
    crop: int = setting(512, "Side of the square training crop, pixels.", minimum=64)
    scale: tuple[float, ...] = setting(
        [0.5, 1.5], "Range of random scaling before cropping.", minItems=2, maxItems=2
    )
    radius: int = setting(10, "Pairs closer than this many grid cells train.", minimum=2)
    displacement: bool = setting(
        True, "Train the displacement branch too (code); it does not reach semantic labels."
    )
    learning_rate: float = setting(0.1, "Of the edge branch.", exclusiveMinimum=0)
    learning_rate_displacement: float = setting(
        1.0, "Of the displacement branch.", exclusiveMinimum=0
    )
    weight_decay: float = setting(1e-4, "L2 penalty.", minimum=0)
    momentum: float = setting(1e-4, MOMENTUM_NOTE + ".", minimum=0, maximum=1)
    clip_norm: float = setting(0.0, "Global gradient norm limit; 0 for none.", minimum=0)
    precision: str = setting("bfloat16", "Arithmetic in training.", enum=PRECISIONS)
    compile: bool = setting(False, COMPILE_NOTE.format(part="network") + ".")


@dataclass(frozen=True)
class RefinedLabelsSettings:
    """Stage `refine_labels`: random walk along the affinities."""

    radius: int = setting(5, "Neighbours closer than this many grid cells are linked.", minimum=2)
    beta: float = setting(10.0, "Affinities to this power (IRN).", exclusiveMinimum=0)
    log2_steps: int = setting(8, "The walk takes 2 to this many steps (IRN).", minimum=0)
    degree: int = setting(
        96, "Chebyshev degree of the walk; 96 leaves out 1e-9 of 256 steps.", minimum=1
    )
    map_power: float = setting(
        1.5, "Maps with a background map: to this power before the walk (SIPE).", minimum=0
    )
    background_factor: float = setting(
        1.0, "Maps with a background map: its factor before the walk.", minimum=0
    )
    background_threshold: float = setting(
        0.25, "Maps without one: score of the background after the walk (IRN).", minimum=0
    )
    pad_to_crop: bool = setting(
        True,
        "Images smaller than `affinity.crop` are padded to it for the network, as in training "
        "(code): its GroupNorm sees the padding. Larger ones are never cropped (the code crops).",
    )
    precision: str = setting("float32", "Arithmetic of the network.", enum=PRECISIONS)


@dataclass(frozen=True)
class SegmenterSettings:
    """Stage `train_segmenter`: DeepLab V2, LargeFOV or V3; presets have the recipes."""

    labels: str = setting(
        "refined_labels",
        "What it trains on; `ground_truth` is the fully supervised upper bound.",
        enum=["refined_labels", "pseudo_labels", "ground_truth"],
    )
    backbone: str = setting("resnet101", "Backbone of the segmenter.", enum=BACKBONE_NAMES)
    head: str = setting(
        "deeplab_v2",
        "`deeplab_v2`: sum of dilated 3x3 convolutions; `large_fov`: one of them and two 1x1 "
        "layers (SEAM's form); `deeplab_v3`: torchvision's, with image pooling and BatchNorm.",
        enum=["deeplab_v2", "large_fov", "deeplab_v3"],
    )
    output_stride: int = setting(
        8, "Image pixels per feature cell: 8 (published, dilated) or 16 (faster).", enum=[8, 16]
    )
    weights: str = setting(
        "torchvision",
        "Its initial weights: `torchvision`, `random`, a file, or `classifier` (those of stage 1).",
    )
    init: str = setting(
        "",
        "File of a segmenter of this head and backbone to start from, in the place of `weights`: "
        "`weights.pt` of another run, or torchvision's DeepLabV3. Empty: none.",
    )
    batch_norm: str = setting(
        "frozen", "As in the classifier; the published recipe freezes.", enum=["frozen", "batch"]
    )
    rates: tuple[int, ...] = setting(
        [6, 12, 18, 24],
        "Dilations of the head's 3x3 convolutions: V2 6, 12, 18, 24; LargeFOV 12; V3 12, 24, 36.",
        items={"minimum": 1},
        minItems=1,
    )
    train_scales: tuple[float, ...] = setting(
        [0.75, 0.5],
        "Further scales of the multi-scale loss, besides 1 and the maximum.",
        items={"exclusiveMinimum": 0},
    )
    iterations: int = setting(20000, "Optimiser steps.", minimum=1)
    batch_size: int = setting(10, "Images per step over all GPUs.", minimum=1)
    accumulate: int = setting(
        2,
        "A step adds up the gradients of so many parts of its batch, each a mean over its own "
        "pixels (code: 2 of 5 images); more parts take less memory.",
        minimum=1,
    )
    crop: int = setting(321, "Side of the square training crop, pixels.", minimum=64)
    scale: tuple[float, ...] = setting(
        [0.5, 1.5], "Range of random scaling before cropping.", minItems=2, maxItems=2
    )
    interpolation: str = setting(
        "bilinear",
        "Of the scaled image: `bilinear` (DeepLabV2's code) or `bicubic` (as the other stages).",
        enum=["bilinear", "bicubic"],
    )
    hsv_jitter: int = setting(
        0,
        "Hue, saturation and value shift by up to this much each: hue in 180ths of the circle, the "
        "others in 255ths; 0 for none.",
        minimum=0,
        maximum=90,
    )
    loss: str = setting(
        "cross_entropy",
        "`balanced` averages background and foreground apart, over the batch; `dsrg` per image.",
        enum=["cross_entropy", "balanced", "dsrg"],
    )
    learning_rate: float = setting(
        2.5e-4, "Of the backbone; head weights x10, head biases x20.", exclusiveMinimum=0
    )
    weight_decay: float = setting(5e-4, "L2 penalty; none on head biases.", minimum=0)
    momentum: float = setting(0.9, "SGD momentum.", minimum=0, maximum=1)
    schedule_block: int = setting(
        10, "The learning rate changes every so many steps (published code).", minimum=1
    )
    precision: str = setting("bfloat16", "Arithmetic in training.", enum=PRECISIONS)
    compile: bool = setting(False, COMPILE_NOTE.format(part="network") + ".")


STAGES: dict[str, type] = {
    "classifier": ClassifierSettings,
    "maps": MapsSettings,
    "pseudo_labels": PseudoLabelsSettings,
    "affinity": AffinitySettings,
    "refined_labels": RefinedLabelsSettings,
    "segmenter": SegmenterSettings,
    "predictions": PredictionsSettings,
    "predictions_crf": PredictionsCRFSettings,
}
