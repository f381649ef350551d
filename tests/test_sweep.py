"""Sweep of the background factor: one score per factor, read as the settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_set import small_index

from protoseg.backbones import build_backbone
from protoseg.localization.network import LocalizationNetwork
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.sweep import sweep_background_factor

SIPE = ClassifierSettings(prototypes="image")
AE_SIPE = replace(SIPE, refinement=("pamr", "prototypes"))
FACTORS = (0.0, 2.0, 1000.0)


@pytest.mark.parametrize("classifier", [SIPE, AE_SIPE], ids=["sipe", "ae_sipe"])
def test_every_factor_is_scored(classifier: ClassifierSettings, tmp_path: Path) -> None:
    torch.manual_seed(0)
    index = small_index(tmp_path, 3)
    network = LocalizationNetwork(build_backbone("resnet18", "random"), 3, (4, 4, 4, 4)).eval()

    def scores(settings: MapsSettings) -> list[float]:
        table = sweep_background_factor(
            network, classifier, index, index.lists["train"], settings, FACTORS, torch.device("cpu")
        )
        assert table["background_factor"].tolist() == list(FACTORS)
        return table["miou"].tolist()

    published = scores(MapsSettings(scales=(1.0, 2.0)))
    assert len(set(published)) == len(FACTORS)
    # At the largest factor all seeds are background; a large factor of the reading comes close.
    read = scores(MapsSettings(scales=(1.0, 2.0), evaluation_background_factor=1000.0))
    assert read[1] != published[1]
    assert read[2] == published[2]
