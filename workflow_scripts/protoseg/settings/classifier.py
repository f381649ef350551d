"""The settings of stage 1's classifier, whose parts combine to every method.

Which parts make which published method is in docs/methods.md; parts that exclude each other are
refused by `validation`. Defaults are those of CAM and SIPE as the published code runs them.
"""

from __future__ import annotations

from dataclasses import dataclass

from protoseg.settings.fields import setting

BACKBONE_NAMES = [
    "resnet18",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "mobilenet_v2",
    "xception",
    "wide_resnet38",
]
PRECISIONS = ["float32", "bfloat16"]
MOMENTUM_NOTE = (
    "SGD momentum. The published optimisers hand weight decay over in the place of momentum, so "
    "they ran with 1e-4 where the papers print 0.9; the default follows the code"
)
COMPILE_NOTE = (
    "Compile the {part} by torch.compile in training. Meant for long trainings on GPUs, `make "
    "bench-gpu` times steps with and without; costs up to minutes at every start, needs a C "
    "compiler, and results differ by rounding"
)
SEED_RULES = ["structure", "argmax", "threshold", "soft"]


@dataclass(frozen=True)
class ClassifierSettings:
    """Stage `train_classifier`: the network from which localization maps are read."""

    prototypes: str = setting(
        "none",
        "Where prototypes come from: `none` (CAM), the `image` itself (SIPE, AE-SIPE, RPC), or "
        "`pairs` of images that share a class (RPNet).",
        enum=["none", "image", "pairs"],
    )
    backbone: str = setting("resnet50", "Backbone of the classifier.", enum=BACKBONE_NAMES)
    weights: str = setting(
        "torchvision", "Initial weights: `torchvision` (download), `random`, or a file."
    )
    frozen_stages: int = setting(
        2, "Layers that never train, counted after the stem; 0 trains all.", minimum=0, maximum=3
    )
    batch_norm: str = setting(
        "frozen",
        "`frozen`: running statistics always (published); `batch`: for random weights.",
        enum=["frozen", "batch"],
    )
    fraction: float = setting(
        1.0,
        "Share of the training list, drawn per class with the seed (RPNet table II).",
        exclusiveMinimum=0,
        maximum=1,
    )
    epochs: int = setting(5, "Passes over the training list.", minimum=1)
    batch_size: int = setting(16, "Images per step over all GPUs.", minimum=1)
    crop: int = setting(512, "Side of the square training crop, pixels.", minimum=32)
    long_side: tuple[int, ...] = setting(
        [320, 640],
        "Range of the long side before cropping, pixels, both ends included.",
        minItems=2,
        maxItems=2,
    )
    learning_rate: float = setting(0.1, "Of the backbone.", exclusiveMinimum=0)
    learning_rate_new: float = setting(1.0, "Of classifier and side branches.", exclusiveMinimum=0)
    weight_decay: float = setting(1e-4, "L2 penalty.", minimum=0)
    momentum: float = setting(1e-4, MOMENTUM_NOTE + ".", minimum=0, maximum=1)
    clip_norm: float = setting(1.0, "Global gradient norm limit; 0 for none.", minimum=0)
    precision: str = setting(
        "bfloat16",
        "Arithmetic of the network in training; maps, prototypes and losses are float32.",
        enum=PRECISIONS,
    )
    compile: bool = setting(False, COMPILE_NOTE.format(part="backbone") + ".")
    side_widths: tuple[int, ...] = setting(
        [128, 128, 256, 256],
        "SIPE: channels of the side branches on layer1 to layer4 (published code).",
        minItems=4,
        maxItems=4,
    )
    seeds: str = setting(
        "structure",
        "Image prototypes: seeds in training by `structure` (SIPE eq. 5), `argmax` or `threshold` "
        "of the CAM (SIPE figure 8), or `soft`, the CAM as weights (RPC eq. 6).",
        enum=SEED_RULES,
    )
    seed_threshold: float = setting(
        0.3, "SIPE: score of the background for seeds by `threshold`.", minimum=0, maximum=1
    )
    structure_feature: str = setting(
        "semantic",
        "SIPE: feature of the structure similarity in training (published code: layer4).",
        enum=["semantic", "hierarchical"],
    )
    prototype_feature: str = setting(
        "hierarchical",
        "SIPE: feature of prototypes and IS-CAM, in training and at inference (table 5).",
        enum=["semantic", "hierarchical"],
    )
    background_factor: float = setting(
        0.5, "SIPE: multiplies the background's similarity in training (code).", minimum=0
    )
    background_scale: float = setting(
        1.0,
        "SIPE: alpha of equation 2, scales the CAM's background. The paper has 0.5 here; the code "
        "leaves 1 and has `background_factor`.",
        minimum=0,
        maximum=1,
    )
    background_prototype: bool = setting(
        True, "SIPE: model the background by a prototype (table 5); else 1 - max of the others."
    )
    consistency: bool = setting(True, "SIPE: general-specific consistency loss (table 4).")
    consistency_weight: float = setting(1.0, "SIPE: its weight (equation 11).", minimum=0)
    refinement: tuple[str, ...] = setting(
        [],
        "Image prototypes: steps after the first IS-CAM, in training and at inference, `pamr` and "
        "`prototypes`, the last one `prototypes`. None is SIPE; `[pamr, prototypes]` is AE-SIPE "
        "(its table 3).",
        items={"enum": ["pamr", "prototypes"]},
    )
    refinement_normalization: str = setting(
        "maximum",
        "AE-SIPE: how its IS-CAM is normalised in the consistency loss, and at inference where "
        "`maps.normalize_scales` asks for it: `maximum` (code) or `min_max` (paper).",
        enum=["maximum", "min_max"],
    )
    pamr_kernel: str = setting(
        "absolute",
        "AE-SIPE: neighbours weigh by the `absolute` difference of colours (code) or by a "
        "`gaussian` of it (paper).",
        enum=["absolute", "gaussian"],
    )
    pamr_dilations: tuple[int, ...] = setting(
        [1, 2, 4, 8, 12, 24],
        "AE-SIPE: distances of PAMR's neighbours, pixels of the quarter-size image.",
        items={"minimum": 1},
        minItems=1,
    )
    pamr_iterations: int = setting(10, "AE-SIPE: iterations of PAMR.", minimum=1)
    attention: str = setting(
        "none",
        "Attention on the levels that prototypes read: `sfa` (RPC eq. 9 and 10), `spatial` or "
        "`self` (RPC table 5), `pooled` (CBAM's spatial attention).",
        enum=["none", "sfa", "spatial", "pooled", "self"],
    )
    attention_levels: tuple[int, ...] = setting(
        [2, 3, 4],
        "Layers that attention reads, ascending (RPC table 8).",
        items={"enum": [1, 2, 3, 4]},
        minItems=1,
    )
    attention_fusion: str = setting(
        "product",
        "SFA: how the levels' maps are fused, `product` (paper), 1 + product, `sum`, or not. The "
        "product is zero on most pixels of an untrained network, which then have no prototype map.",
        enum=["product", "one_plus_product", "sum", "separate"],
    )
    regions: int = setting(
        1,
        "Networks in a row, each of which sees the image without what those before it found "
        "(RPC: 2; table 7).",
        minimum=1,
        maximum=3,
    )
    region_threshold: float = setting(
        0.7,
        "CAM from which a pixel is erased for the next region (RPC eq. 5, table 9).",
        minimum=0,
        maximum=1,
    )
    region_background: str = setting(
        "first",
        "Background map of several regions: the `first` one's, which alone sees the whole image, "
        "or the `max` of all. The paper does not say.",
        enum=["first", "max"],
    )
    pair_levels: tuple[int, ...] = setting(
        [2, 4],
        "RPNet: layers that give prototypes, ascending (table IV).",
        items={"enum": [1, 2, 3, 4]},
        minItems=1,
    )
    pair_width: int = setting(
        256, "RPNet: channels of the projected layers (paper; code 512).", minimum=1
    )
    pair_mask: float = setting(
        0.3, "RPNet: alpha, from which a channel marks a pixel as region.", minimum=0, maximum=1
    )
    pair_drop: float = setting(
        0.5,
        "RPNet: beta, share of a region's pixels that fall out (table V).",
        minimum=0,
        maximum=1,
    )
    pair_masks: str = setting(
        "dropped",
        "RPNet: regions of the prototypes, `dropped` (paper), `full`, or `both` (code).",
        enum=["full", "dropped", "both"],
    )
    pair_reading: str = setting(
        "per_level",
        "RPNet: prototypes of each layer meet their own layer (`per_level`, code), or all meet the "
        "last block (`pooled`, paper): then the other layers are projected to its width, and since "
        "their prototypes hardly ever win, those projections learn nothing.",
        enum=["pooled", "per_level"],
    )
    pair_images: str = setting(
        "two", "RPNet: prototypes of `two` images or of `one` (table VII).", enum=["one", "two"]
    )
    pair_factor: float = setting(
        1.0, "RPNet: factor of the attention map (paper 1, code 1.3).", exclusiveMinimum=0
    )
    pair_gaussian: bool = setting(True, "RPNet: smooth the attention map, 5x5, sigma 3 (table VI).")
    pair_scales: tuple[float, ...] = setting(
        [],
        "RPNet: further image scales over which enhanced maps are averaged, without gradient "
        "(code: 0.5, 1.5, 2).",
        items={"exclusiveMinimum": 0},
    )
    pair_weight: float = setting(10.0, "RPNet: lambda, weight of the enhancement loss.", minimum=0)
    pair_nonlocal: str = setting(
        "none",
        "RPNet: non-local block before the classifier; the code has `dot_product`, the paper none.",
        enum=["none", "gaussian", "dot_product"],
    )
