"""Export of SIPE's maps, scales 1, 0.5, 1.5, 2 with mirror, beside its published form.

    OMP_NUM_THREADS=1 PYTHONPATH=workflow_scripts python benchmarks/export.py

Images are 500 x 375; reading, maps and writing count. The library writes maps per scale and fuses
them on reading. The environment variable PROTOSEG_BENCH_WEIGHTS names a folder with ImageNet
weights, mobilenet_v2_imagenet.pth or resnet50_imagenet.pth; without it they are random.
Classifier and side branches always are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Comparison, command, costs_of
from numpy.typing import NDArray
from PIL import Image
from sample import samples
from textbook import export as textbook
from torch import Tensor

from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.localization.export import export_maps
from protoseg.localization.fusion import fused_maps
from protoseg.localization.network import LocalizationNetwork
from protoseg.localization.train import build_network, load_network
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.storage import ResultReader, write_results
from protoseg.training.checkpoint import save_weights

IMAGES = {"mobilenet_v2": 4, "resnet50": 1}  # of each backbone
CLASSES = 20
SETTINGS = {precision: MapsSettings(precision=precision) for precision in ("float32", "bfloat16")}
TARGET = "x3 images per second, 99.9 % of labels, 1/10 of the file"


def index_of(pictures: Sequence[NDArray[np.uint8]], folder: Path) -> DatasetIndex:
    """Index of ``pictures``, stored as PNG, each with two or three random classes."""
    random = np.random.default_rng(0)
    records = []
    for number, pixels in enumerate(pictures):
        path = folder / f"image{number}.png"
        Image.fromarray(pixels).save(path)
        chosen = random.choice(CLASSES, 2 + number % 2, replace=False) + 1
        labels = tuple(sorted(int(label) for label in chosen))
        height, width = pixels.shape[:2]
        records.append(ImageRecord(path.stem, path, None, (height, width), labels))
    names = [f"class{number}" for number in range(1, CLASSES + 1)]
    return DatasetIndex("benchmark", folder, names, {}, records, {})


def initial_weights(backbone: str) -> str:
    """File of ``backbone`` in the folder of weights, ``random`` without one."""
    path = Path(os.environ.get("PROTOSEG_BENCH_WEIGHTS", "")) / f"{backbone}_imagenet.pth"
    return str(path) if path.exists() else "random"


def networks(
    backbone: str, weights: str, folder: Path
) -> tuple[textbook.Network, LocalizationNetwork, ClassifierSettings]:
    """The textbook's network, the library's as the pipeline loads it, and its settings."""
    torch.manual_seed(0)
    settings = ClassifierSettings(prototypes="image", backbone=backbone, weights=weights)
    network = build_network(settings, CLASSES, weights)
    about = {"settings": asdict(settings), "classes": [""] * CLASSES}
    save_weights(folder / "weights.pt", network, about)
    build = {"mobilenet_v2": textbook.mobilenet_v2, "resnet50": textbook.resnet50}[backbone]
    published = build(CLASSES).eval()
    sources = [*network.backbone.stage_modules(), network.classifier, network.side]
    for target, source in zip(published.parts(), sources, strict=True):
        values = source.state_dict().values()
        target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))
    return published, *load_network(folder / "weights.pt", torch.device("cpu"))


def label_of(index: DatasetIndex, image_id: str) -> Tensor:
    return torch.from_numpy(index.label_vector(image_id))


def textbook_export(network: textbook.Network, index: DatasetIndex, folder: Path) -> None:
    """One .npy per image."""
    scales = SETTINGS["float32"].scales
    for image_id, record in index.records.items():
        image, path = read_image(record.image), folder / f"{image_id}.npy"
        textbook.export(network, image, label_of(index, image_id), scales, path)


def library_export(
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    index: DatasetIndex,
    settings: MapsSettings,
    path: Path,
) -> None:
    """All images in one file."""
    maps = export_maps(
        network, classifier, index, list(index.records), settings, torch.device("cpu")
    )
    with write_results(path, "maps", index.class_names, "") as writer:
        for image_id, image_maps in maps:
            writer.write_maps(image_id, image_maps)


def outputs(index: DatasetIndex, folder: Path, path: Path) -> dict[str, Any]:
    """Largest difference of the maps, share of equal labels, and share of the file's size."""
    reader, largest, equal, size = ResultReader([path], "maps"), 0.0, [], 0
    for image_id in index.records:
        file = folder / f"{image_id}.npy"
        expected = np.load(file, allow_pickle=True).item()["maps"]
        found = fused_maps(reader.maps(image_id))
        largest = max(largest, float(np.abs(found - expected).max()))
        equal.append((found.argmax(0) == expected.argmax(0)).mean())
        size += file.stat().st_size
    return {"largest": largest, "equal": np.mean(equal), "size": path.stat().st_size / size}


def missed(speed: float, found: dict[str, Any]) -> str:
    """Which parts of `TARGET` were not reached, as the end of a sentence."""
    parts = {"speed": speed >= 3, "labels": found["equal"] >= 0.999, "size": found["size"] <= 0.1}
    names = " and ".join(name for name, reached in parts.items() if not reached)
    return f"; the target is missed in {names}" if names else ""


def compare_backbone(backbone: str, count: int, folder: Path) -> list[Comparison]:
    """Both precisions of the library beside one run of the textbook form."""
    weights = initial_weights(backbone)
    index = index_of([sample.pixels for sample in samples(count)], folder)
    published, network, classifier = networks(backbone, weights, folder)
    paths = {precision: folder / f"{precision}.h5" for precision in SETTINGS}
    exports = [
        partial(library_export, network, classifier, index, settings, paths[precision])
        for precision, settings in SETTINGS.items()
    ]
    (_, textbook_cost), *costs = costs_of(
        partial(textbook_export, published, index, folder),
        *exports,
        rounds=2,
        repeats=2,
        items=count,
    )
    comparisons = []
    for (precision, path), (_, cost) in zip(paths.items(), costs, strict=True):
        found = outputs(index, folder, path)
        kind = "random" if weights == "random" else "ImageNet"
        text = (
            f"{found['equal']:.3%} of the labels are equal, maps differ by {found['largest']:.1e} "
            f"at most; the file has {found['size']:.1%} of the .npy's size"
        )
        stage = f"export of SIPE's maps, {backbone} with {kind} weights, library in {precision}"
        comparison = Comparison(stage, textbook_cost, cost, text, TARGET)
        comparisons.append(replace(comparison, outputs=text + missed(comparison.speed, found)))
    return comparisons


def compare() -> list[Comparison]:
    comparisons = []
    for backbone, count in IMAGES.items():
        with tempfile.TemporaryDirectory() as name:
            comparisons += compare_backbone(backbone, count, Path(name))
    return comparisons


if __name__ == "__main__":
    command(compare, __doc__)
