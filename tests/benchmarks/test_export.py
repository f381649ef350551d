"""The published form of the export gives the maps that the library stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from export import (
    SETTINGS,
    index_of,
    library_export,
    missed,
    networks,
    outputs,
    textbook_export,
)


def test_maps_are_equal(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    index = index_of([noise], tmp_path)
    published, network, classifier = networks("mobilenet_v2", "random", tmp_path)
    textbook_export(published, index, tmp_path)
    path = tmp_path / "maps.h5"
    library_export(network, classifier, index, SETTINGS["float32"], path)
    found = outputs(index, tmp_path, path)
    assert found["largest"] < 1e-4
    assert found["equal"] == 1


def test_missed_targets_are_named() -> None:
    assert missed(3.0, {"equal": 0.999, "size": 0.1}) == ""
    found = missed(2.9, {"equal": 0.99, "size": 0.1})
    assert found == "; the target is missed in speed and labels"
