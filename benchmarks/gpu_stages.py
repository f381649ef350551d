"""The stages that run on a GPU, on made-up inputs of the published sizes, for `gpu`.

In: `Sizes` and a device. Out: `Stage`s: the pipeline's own functions as work to be called again and
again. Training steps have their batch on the device; export and prediction read JPEGs from a folder
as the pipeline does. Weights are random, which changes no speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from protoseg.affinity import train as affinity
from protoseg.affinity.model import AffinityModel
from protoseg.affinity.refine import walk_settings
from protoseg.affinity.walk import random_walk
from protoseg.backbones.folding import for_evaluation
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.localization import train as localization
from protoseg.localization.export import export_maps
from protoseg.segmentation import train as segmentation
from protoseg.segmentation.inference import predict
from protoseg.segmentation.optimization import parameter_groups
from protoseg.settings.classifier import PRECISIONS, ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.settings.predictions import PredictionsSettings
from protoseg.settings.schema import AffinitySettings, RefinedLabelsSettings, SegmenterSettings
from protoseg.training.fit import Batch, LossFunction, step_on
from protoseg.training.precision import place

CLASSES = tuple(f"class{number}" for number in range(1, 21))


@dataclass(frozen=True)
class Sizes:
    """Of the inputs; the defaults are the published ones.

    Attributes:
        images: of one export or prediction. grid: of the random walk. walks: at a time.
        steps: timed ones.
    """

    backbone: str = "resnet50"
    segmenter_backbone: str = "resnet101"
    crop: int = 512
    segmenter_crop: int = 321
    batch: int = 16
    affinity_batch: int = 32
    segmenter_batch: int = 10
    image: tuple[int, int] = (375, 500)
    images: int = 32
    grid: tuple[int, int] = (94, 125)
    walks: int = 16
    steps: int = 20


@dataclass(frozen=True)
class Stage:
    """A piece of work.

    Attributes:
        images: of one call. calls: timed ones.
        operations: floating-point ones of one call; 0 where a share of the peak says nothing.
    """

    name: str
    work: Callable[[], object]
    images: int
    calls: int
    operations: int = 0


def operations_of(work: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def training_stage(
    name: str,
    network: nn.Module,
    groups: list[dict[str, Any]],
    loss_function: LossFunction,
    batch: Batch,
    calls: int,
    clip_norm: float,
    compile_network: Callable[[], None] | None,
) -> Stage:
    """Steps of a training on one batch, at learning rate 0: random weights would soon diverge."""
    network.train()
    optimizer = torch.optim.SGD([group | {"lr": 0.0} for group in groups], lr=0.0)

    def step() -> None:
        step_on([batch], partial(loss_function, network), network, optimizer, clip_norm)

    operations = operations_of(step)  # before compilation, which hides them
    if compile_network:
        compile_network()
    name = f"{name} step, {'compiled' if compile_network else 'not compiled'}"
    return Stage(name, step, len(batch["image"]), calls, operations)


def classifier_stage(sizes: Sizes, device: torch.device, compiled: bool) -> Stage:
    """SIPE."""
    settings = ClassifierSettings(prototypes="image", backbone=sizes.backbone)
    network = place(localization.build_network(settings, len(CLASSES), "random"), device)
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(sizes.batch, len(CLASSES), generator=generator) < 0.1).float()
    box = torch.tensor([[0, sizes.crop, 0, sizes.crop]]).expand(sizes.batch, 4)
    batch = {
        "image": images_of(sizes.batch, sizes.crop, device),
        "label": label.to(device),
        "valid_box": box.to(device),
    }
    return training_stage(
        "classifier",
        network,
        localization.parameter_groups(network, settings),
        partial(localization.batch_losses, settings=settings),
        batch,
        sizes.steps,
        settings.clip_norm,
        partial(localization.compile_backbones, network) if compiled else None,
    )


def affinity_stage(sizes: Sizes, device: torch.device, compiled: bool) -> Stage:
    """IRN with both branches."""
    settings = AffinitySettings(backbone=sizes.backbone)
    model = place(AffinityModel(settings, "random"), device)
    return training_stage(
        "affinity",
        model,
        affinity.parameter_groups(model, settings),
        partial(affinity.batch_losses, settings=settings),
        labelled_batch(sizes.affinity_batch, sizes.crop, device),
        sizes.steps,
        settings.clip_norm,
        model.compile if compiled else None,
    )


def segmenter_of(sizes: Sizes, device: torch.device) -> tuple[SegmenterSettings, Any]:
    """Settings and network of DeepLabV2."""
    settings = SegmenterSettings(backbone=sizes.segmenter_backbone)
    network = segmentation.build_segmenter(settings, len(CLASSES) + 1, "random")
    return settings, place(network, device)


def segmenter_stage(sizes: Sizes, device: torch.device, compiled: bool) -> Stage:
    """DeepLabV2 at its three scales."""
    settings, network = segmenter_of(sizes, device)
    rates = (settings.learning_rate, settings.weight_decay, settings.momentum)
    return training_stage(
        "segmenter",
        network,
        parameter_groups(network, *rates),
        partial(segmentation.batch_losses, settings=settings),
        labelled_batch(sizes.segmenter_batch, sizes.segmenter_crop, device),
        sizes.steps,
        0.0,
        network.compile if compiled else None,
    )


def export_stage(sizes: Sizes, device: torch.device, folder: Path, precision: str) -> Stage:
    """SIPE at four scales, each with its mirror."""
    classifier = ClassifierSettings(prototypes="image", backbone=sizes.backbone)
    network = localization.build_network(classifier, len(CLASSES), "random")
    network = for_evaluation(network, device)
    index, ids = stored_images(sizes, folder)
    settings = MapsSettings(precision=precision)

    def work() -> None:
        deque(export_maps(network, classifier, index, ids, settings, device), maxlen=0)

    return inference_stage("export", work, len(ids), precision)


def prediction_stage(sizes: Sizes, device: torch.device, folder: Path, precision: str) -> Stage:
    """DeepLabV2 at its test scales."""
    network = for_evaluation(segmenter_of(sizes, device)[1], device)
    index, ids = stored_images(sizes, folder)
    settings = PredictionsSettings(precision=precision)

    def work() -> None:
        deque(predict(network, index, ids, settings, device), maxlen=0)

    return inference_stage("prediction", work, len(ids), precision)


def inference_stage(name: str, work: Callable[[], None], images: int, precision: str) -> Stage:
    operations = operations_of(work) if precision == "bfloat16" else 0
    return Stage(f"{name}, {precision}", work, images, 1, operations)


def walk_stage(sizes: Sizes, device: torch.device, images: int) -> Stage:
    """Three maps an image, 256 steps, ``images`` at a time."""
    generator = torch.Generator().manual_seed(0)
    edge = torch.rand(images, *sizes.grid, generator=generator).to(device)
    maps = torch.rand(images, 3, *sizes.grid, generator=generator).to(device)
    settings = walk_settings(RefinedLabelsSettings())
    work = partial(random_walk, maps, edge, settings)
    return Stage(f"random walk, {images} at a time", work, images, sizes.steps)


def images_of(count: int, crop: int, device: torch.device) -> Tensor:
    """Noise [count, 3, crop, crop] in channels_last, as the fit loop hands it on."""
    noise = torch.randn(count, 3, crop, crop, generator=torch.Generator().manual_seed(0))
    return noise.to(device).contiguous(memory_format=torch.channels_last)


def labelled_batch(count: int, crop: int, device: torch.device) -> Batch:
    """Noise, with label maps of 8 x 8 blocks."""
    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(len(CLASSES) + 1, (count, 1, 8, 8), generator=generator)
    label = functional.interpolate(blocks.float(), size=(crop, crop))[:, 0].long()
    return {"image": images_of(count, crop, device), "label": label.to(device)}


def stored_images(sizes: Sizes, folder: Path) -> tuple[DatasetIndex, list[str]]:
    """An index whose images are all the same JPEG of smooth noise in ``folder``, and their ids."""
    height, width = sizes.image
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    path = folder / "image.jpg"
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
    ids = [f"image{number}" for number in range(sizes.images)]
    records = [ImageRecord(image_id, path, None, sizes.image, (1, 2)) for image_id in ids]
    return DatasetIndex("made up", folder, CLASSES, {}, records, {"all": ids}), ids


def stages(sizes: Sizes, device: torch.device, folder: Path) -> Iterator[partial[Stage]]:
    """What builds each stage, so that one takes memory at a time."""
    for training in (classifier_stage, affinity_stage, segmenter_stage):
        for compiled in (False, True):
            yield partial(training, sizes, device, compiled)
    for inference in (export_stage, prediction_stage):
        for precision in PRECISIONS:
            yield partial(inference, sizes, device, folder, precision)
    for images in (1, sizes.walks):
        yield partial(walk_stage, sizes, device, images)
