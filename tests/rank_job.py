"""A command that trains on tiny images with several ranks, for tests.

Rank 0 writes what the jobs return to `--output`; the tests run the same functions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from small_set import small_index
from torch import Tensor, nn
from torch.utils.data import Dataset

from protoseg.affinity.train import train_affinity
from protoseg.command import Arguments, run
from protoseg.data.labelled import LabelledDataset
from protoseg.localization.train import train_classifier
from protoseg.segmentation.train import train_segmenter
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.schema import AffinitySettings, SegmenterSettings
from protoseg.training.checkpoint import save
from protoseg.training.distributed import on_all_gpus, process_group, rank
from protoseg.training.fit import Batch, FitSettings, LossFunction, fit

Result = dict[str, Any]
CAM = ClassifierSettings(
    backbone="resnet18",
    weights="random",
    epochs=2,
    batch_size=4,
    crop=48,
    long_side=(40, 56),
    learning_rate=0.001,
    learning_rate_new=0.01,
    precision="float32",
    side_widths=(4, 4, 4, 4),
)
CLASSIFIERS = {
    "cam": CAM,
    "unused_side": replace(
        CAM, prototypes="image", prototype_feature="semantic", consistency=False
    ),
    "rpnet": replace(CAM, prototypes="pairs", pair_masks="full", pair_width=8),
}
AFFINITY = AffinitySettings(
    backbone="resnet18",
    weights="random",
    epochs=2,
    batch_size=4,
    crop=64,
    radius=4,
    learning_rate=0.01,
    learning_rate_displacement=0.01,
    precision="float32",
)
SEGMENTER = SegmenterSettings(
    backbone="resnet18",
    weights="random",
    output_stride=16,
    rates=(1, 2),
    train_scales=(0.5,),
    iterations=2,
    batch_size=4,
    crop=64,
    precision="float32",
)
NOISE = FitSettings(
    batch_size=4,
    epochs=3,
    max_steps=None,
    clip_norm=1.0,
    schedule_block=1,
    seed=3,
    workers=0,
    fingerprint="abc",
    unused_parameters=False,
)


class Noise(Dataset[Batch]):
    """8 images, two batches."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        image = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(10 * key[0] + key[1]))
        return {"image": image, "label": image.mean()}


def squared_error(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    return {"total": (network(batch["image"]).flatten() - batch["label"]).square().mean()}


def train_noise(
    checkpoint: Path, loss: LossFunction = squared_error, settings: FitSettings = NOISE
) -> Result:
    """A network with dropout: the random state matters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.Conv2d(4, 1, 4))
    groups = [
        {"params": list(network.parameters()), "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    ]
    history = fit(network, groups, loss, Noise(), settings, torch.device("cpu"), checkpoint)
    return result(network, history["total"])


def result(network: nn.Module, total: Any) -> Result:
    return {"state": network.state_dict(), "total": torch.tensor(list(total))}


def train_all(folder: Path) -> Result:
    """Each of the three trainings for two steps, some in several forms."""
    folder.mkdir()
    index = small_index(folder, 4)
    ids = index.lists["train"]
    common: dict[str, Any] = {"workers": 0, "fingerprint": ""}

    def half_unknown(image_id: str) -> NDArray[np.uint8]:
        """Every second mask is unknown but for a strip: the ranks' counts of pixels differ."""
        mask = index.read_mask(image_id)
        if ids.index(image_id) % 2:
            mask[:, 8:] = 255
        return mask

    labelled = LabelledDataset(index, ids, half_unknown, 64, (0.5, 1.5), 0)
    found = {}
    for name, classifier in CLASSIFIERS.items():
        network, history, _ = train_classifier(
            index, ids, classifier, 0, checkpoint=folder / f"{name}.pt", **common
        )
        found[name] = result(network, history["total"])
    common["classifier"] = None
    model, history = train_affinity(
        labelled, AFFINITY, 0, checkpoint=folder / "affinity.pt", **common
    )
    found["affinity"] = result(model, history["total"])
    for loss in ("cross_entropy", "balanced", "dsrg"):
        settings = replace(SEGMENTER, loss=loss)
        segmenter, history, _ = train_segmenter(
            labelled, settings, 0, checkpoint=folder / f"{loss}.pt", **common
        )
        found[loss] = result(segmenter, history["total"])
    return found


def train_and_resume(folder: Path) -> Result:
    """An uninterrupted training, and one that all ranks leave in its second epoch."""
    calls = 0

    def interrupted(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return squared_error(network, batch)

    # One name for all ranks: they resume from the file that rank 0 writes.
    whole = train_noise(folder.parent / "whole.pt")
    with suppress(KeyboardInterrupt):
        train_noise(folder.parent / "resumed.pt", interrupted)
    return {"whole": whole, "resumed": train_noise(folder.parent / "resumed.pt")}


def train_everything(folder: Path) -> Result:
    with process_group(torch.device("cpu")):
        return train_all(folder) | train_and_resume(folder)


def fail(folder: Path) -> Result:
    """Rank 1 fails in the first step, the others wait for its gradients."""

    def failing(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if rank() == 1:
            raise ValueError("memory is full")
        return squared_error(network, batch)

    return train_noise(folder.parent / "c.pt", failing)


def train_for_ever(folder: Path) -> Result:
    """Every rank says when it trains, and when it has left."""
    folder.mkdir()

    def loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if (folder.parent / "c.pt").exists():
            (folder / "trains").touch()
        return squared_error(network, batch)

    try:
        return train_noise(folder.parent / "c.pt", loss, replace(NOISE, epochs=10**6))
    finally:
        (folder / "left").touch()


JOBS: dict[str, Callable[[Path], Result]] = {
    "everything": train_everything,
    "fail": fail,
    "for_ever": train_for_ever,
}


def main(arguments: Arguments) -> None:
    found = JOBS[arguments.job](arguments.output.parent / f"rank{rank()}")
    if rank() == 0:
        save(arguments.output, found)


if __name__ == "__main__":
    run(on_all_gpus(main), __doc__, job=str, output=Path, processes=int)
