"""Scores of maps and labels against an example by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.data.palette import save_label_png
from protoseg.errors import InputError
from protoseg.evaluation import THRESHOLDS, evaluate_labels, evaluate_maps, percent, to_json
from protoseg.storage import ResultReader, ScaleMaps, write_results

# One row of pixels; class 2 is the second of three foreground classes, 255 does not count.
MASK = [0, 0, 0, 2, 2, 2, 255, 0]
PREDICTION = [0, 0, 2, 2, 2, 255, 2, 0]
#   background: 3 right, true 4, predicted 4 (255 counts) -> 3 / 5
#   class 2: 2 right, true 3, predicted 3 (without the ignored pixel) -> 2 / 4


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    save_label_png(tmp_path / "a.png", np.array([MASK], np.uint8))
    Image.new("RGB", (8, 1)).save(tmp_path / "a_image.png")
    record = ImageRecord("a", tmp_path / "a_image.png", tmp_path / "a.png", (1, 8), (2,))
    values = {value: value for value in (0, 1, 2, 3, 255)}
    names = ["cat", "dog", "cow"]
    return DatasetIndex("small", tmp_path, names, values, [record], {"train": ["a"]})


def maps_reader(
    folder: Path, maps: Sequence[NDArray[np.float32]], classes: list[int]
) -> ResultReader:
    scales = (np.array(maps, np.float32)[:, None],)
    with write_results(folder / "maps.h5", "maps", ["background", "cat", "dog", "cow"], "f") as w:
        w.write_maps("a", ScaleMaps(scales, np.array(classes), (1, 8)))
    return ResultReader([folder / "maps.h5"], "maps")


def test_labels_by_hand(index: DatasetIndex, tmp_path: Path) -> None:
    with write_results(tmp_path / "l.h5", "labels", index.class_names, "f") as writer:
        writer.write_label("a", np.array([PREDICTION], np.uint8))
    reader = ResultReader([tmp_path / "l.h5"], "labels")
    found = evaluate_labels(index, ["a"], "train", "pseudo_labels", reader)
    assert (found["stage"], found["list"], found["images"]) == ("pseudo_labels", "train", 1)
    assert found["iou"] == [pytest.approx(60.0), None, pytest.approx(50.0), None]
    assert found["miou"] == pytest.approx(55.0)
    assert found["classes_counted"] == 2
    assert found["class_names"] == ["background", "cat", "dog", "cow"]
    assert json.loads(to_json(found)) == found
    with pytest.raises(InputError, match=r"lacks 1 ids of 'val' \(first: b\)"):
        evaluate_labels(index, ["a", "b"], "val", "pseudo_labels", reader)


def test_maps_with_a_background_map_are_read_by_argmax(index: DatasetIndex, tmp_path: Path) -> None:
    """The class ids of the maps count, not their places."""
    winner = np.array(PREDICTION)
    foreground = np.where(winner == 2, 1.0, 0.2).astype(np.float32)
    background = np.full(8, 0.5, np.float32)
    background[0] = 1.0
    reader = maps_reader(tmp_path, [background, foreground], [0, 2])
    found = evaluate_maps(index, ["a"], "train", reader)
    assert (found["stage"], found["list"]) == ("maps", "train")
    assert found["reading"] == "estimated background"
    assert found["iou"] == [pytest.approx(60.0), None, pytest.approx(50.0), None]
    # The sweep reads the foreground alone: from 0.2 on the same labels, below it all is class 2.
    assert found["best_threshold"] == pytest.approx(0.2)
    assert found["best_threshold_miou"] == pytest.approx(55.0)
    low = THRESHOLDS.index(0.05)
    assert found["sweep"]["miou"][low] == pytest.approx(100 * (0 + 3 / 7) / 2)


def test_factor_of_the_background_map(index: DatasetIndex, tmp_path: Path) -> None:
    winner = np.array(PREDICTION)
    foreground = np.where(winner == 2, 1.0, 0.7).astype(np.float32)
    reader = maps_reader(tmp_path, [np.full(8, 1.0, np.float32), foreground], [0, 2])
    assert evaluate_maps(index, ["a"], "train", reader)["iou"][2] == 0  # ties are background
    found = evaluate_maps(index, ["a"], "train", reader, 0.8)
    assert found["reading"] == "estimated background times 0.8"
    assert found["iou"] == [pytest.approx(60.0), None, pytest.approx(50.0), None]
    assert evaluate_maps(index, ["a"], "train", reader, 0.6)["iou"][0] == 0  # 0.6 < 0.7
    sweeps = [evaluate_maps(index, ["a"], "train", reader, f)["sweep"] for f in (0.8, 1.0)]
    assert sweeps[0] == sweeps[1]


def test_maps_without_one_are_read_at_the_best_threshold(
    index: DatasetIndex, tmp_path: Path
) -> None:
    scores = np.array([0.1, 0.1, 0.3, 0.9, 0.9, 1.0, 1.0, 0.1], np.float32)
    reader = maps_reader(tmp_path, [scores], [2])
    found = evaluate_maps(index, ["a"], "train", reader)
    assert found["reading"] == "best threshold 0.30"  # the third pixel is background from 0.3 on
    assert found["iou"] == [pytest.approx(100.0), None, pytest.approx(100.0), None]
    assert found["miou"] == found["best_threshold_miou"] == pytest.approx(100.0)
    assert found["sweep"]["thresholds"] == list(THRESHOLDS)
    assert found["sweep"]["miou"][0] == pytest.approx(100 * (0 + 3 / 7) / 2)
    with pytest.raises(InputError, match="rerun export_maps"):
        evaluate_maps(index, ["b"], "train", reader)


def test_nan_is_null_in_json() -> None:
    assert percent(float("nan")) is None
    assert percent(0.5) == 50.0
    with pytest.raises(ValueError, match="JSON"):
        to_json({"miou": float("nan")})
