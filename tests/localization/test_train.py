"""Training of the classifier: each method learns on images and comes back from its weights file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_set import small_index

from protoseg.localization.train import load_network, train_classifier
from protoseg.settings.schema import ClassifierSettings
from protoseg.training.checkpoint import save_weights

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
    precision="float32",
    side_widths=(4, 4, 4, 4),
)
SIPE = replace(CAM, method="sipe")
AE_SIPE = replace(SIPE, refinement=("pamr", "prototypes"))


@pytest.mark.parametrize("settings", [CAM, SIPE, AE_SIPE], ids=["cam", "sipe", "ae_sipe"])
def test_one_step(settings: ClassifierSettings, tmp_path: Path) -> None:
    index = small_index(tmp_path, 2)
    network, history, about = train_classifier(
        index,
        index.lists["train"],
        settings,
        0,
        workers=0,
        fingerprint="",
        checkpoint=tmp_path / "checkpoint.pt",
    )
    assert history["total"].notna().all()
    assert ("consistency" in history) == (settings.method == "sipe")
    save_weights(tmp_path / "weights.pt", network, about)
    loaded, found = load_network(tmp_path / "weights.pt", torch.device("cpu"))
    assert found == settings
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
