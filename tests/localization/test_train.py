"""Training of the classifier: each method learns on images and comes back from its weights file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_set import small_index

from protoseg.localization.network import LocalizationNetwork
from protoseg.localization.train import build_network, load_network, train_classifier
from protoseg.settings.classifier import ClassifierSettings
from protoseg.training.checkpoint import load_weights, save_weights

CAM = ClassifierSettings(
    backbone="resnet18",
    weights="random",
    frozen_stages=0,
    batch_norm="batch",
    epochs=1,
    batch_size=2,
    crop=48,
    long_side=(40, 56),
    learning_rate=0.01,
    learning_rate_new=0.01,
    weight_decay=0.0,
    attention_fusion="one_plus_product",
    precision="float32",
    side_widths=(4, 4, 4, 4),
)
SIPE = replace(CAM, prototypes="image")
UNION = replace(SIPE, refinement=("pamr", "prototypes"), attention="sfa", regions=2)
PAIRS = replace(CAM, prototypes="pairs", pair_width=8)
METHODS = {
    "cam": CAM,
    "erasing": replace(CAM, regions=2),
    "sipe": SIPE,
    "ae_sipe": replace(SIPE, refinement=("pamr", "prototypes")),
    "rpc": replace(SIPE, seeds="soft", attention="sfa", regions=2),
    "three_regions": replace(SIPE, regions=3, region_background="max"),
    "spatial": replace(SIPE, attention="spatial", attention_levels=(1, 4)),
    "self": replace(SIPE, attention="self", attention_levels=(4,)),
    "union": UNION,
    "rpnet": PAIRS,
    "rpnet_code": replace(
        PAIRS,
        pair_masks="both",
        pair_reading="per_level",
        pair_factor=1.3,
        pair_scales=(0.5, 1.5),
        pair_nonlocal="dot_product",
    ),
    "rpnet_sfa_regions": replace(PAIRS, attention="sfa", regions=2, pair_images="one"),
}


def trained(
    settings: ClassifierSettings, folder: Path, images: int = 2
) -> tuple[LocalizationNetwork, pd.DataFrame, dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    index = small_index(folder, images)
    return train_classifier(
        index,
        index.lists["train"],
        settings,
        0,
        workers=0,
        fingerprint="",
        checkpoint=folder / "checkpoint.pt",
    )


@pytest.mark.parametrize("name", METHODS)
def test_one_step(name: str, tmp_path: Path) -> None:
    settings = METHODS[name]
    network, history, about = trained(settings, tmp_path)
    assert history["total"].notna().all()
    assert ("consistency" in history) == (settings.prototypes == "image")
    assert ("enhancement" in history) == (settings.prototypes == "pairs")
    assert ("classification_2" in history) == (settings.regions > 1)
    assert ("classification_3" in history) == (settings.regions > 2)
    save_weights(tmp_path / "weights.pt", network, about)
    stored, _ = load_weights(tmp_path / "weights.pt")
    loaded, found = load_network(tmp_path / "weights.pt", torch.device("cpu"))
    assert found == settings
    for key, value in network.state_dict().items():
        assert torch.equal(stored[key], value)
        if "backbone." not in key:  # the backbones are folded
            assert torch.equal(loaded.state_dict()[key], value)
    torch.manual_seed(0)
    start = dict(build_network(settings, 3, "random").named_parameters())
    moved = {
        part_of(key) for key, p in network.named_parameters() if not torch.equal(p, start[key])
    }
    assert moved == {part_of(key) for key in start}


def part_of(key: str) -> str:
    """Which part of which region a parameter belongs to: `side`, `further.0.attention`, ..."""
    names = key.split(".")
    return ".".join(names[:3] if names[0] == "further" else names[:1])


def test_a_fraction_trains_on_fewer_images(tmp_path: Path) -> None:
    _, whole, _ = trained(replace(CAM, batch_size=1), tmp_path / "whole", 6)
    _, part, _ = trained(replace(CAM, batch_size=1, fraction=0.2), tmp_path / "part", 6)
    assert whole["steps"].sum() == 6
    assert 1 <= part["steps"].sum() < 6
