"""Scores and threshold sweep against the published evaluation scripts (golden/metrics)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden_files
from numpy.typing import NDArray

from protoseg.metrics import (
    Average,
    Confusion,
    ThresholdSweep,
    compute_scores,
    intersection_over_union,
    mean_iou,
)

PAIRS = golden_files("metrics", "label_pairs*.npz")
SWEEPS = golden_files("metrics", "threshold_sweep*.npz")
Golden = dict[str, NDArray]


def assert_rates(found: Any, expected: NDArray, name: str = "") -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=name)


def read(file: Path) -> Golden:
    with np.load(file) as archive:
        return dict(archive)


def count(golden: Golden, images: range, void_prediction: str = "background") -> NDArray:
    """Confusion over all labels that occur, cut to the data set's classes as the original does."""
    n_classes = len(golden["confusion"])
    confusion = Confusion(max(n_classes, int(golden["confusion_size"])), void_prediction)  # type: ignore[arg-type]
    for index in images:
        confusion.update(golden[f"gt_{index}"], golden[f"pred_{index}"])
    return confusion.matrix[:n_classes, :n_classes]


@pytest.mark.parametrize("file", PAIRS)
def test_counts(file: Path) -> None:
    golden = read(file)
    n_images = int(golden["n_images"])
    np.testing.assert_array_equal(count(golden, range(n_images)), golden["confusion"])
    for index, expected in enumerate(golden["confusion_per_image"]):
        np.testing.assert_array_equal(count(golden, range(index, index + 1)), expected)


@pytest.mark.parametrize("file", PAIRS)
def test_scores(file: Path) -> None:
    golden = read(file)
    scores = compute_scores(golden["confusion"])
    for name, found in {
        "iou_chainercv": scores.iou,
        "miou_chainercv": scores.mean_iou,
        "over_fp": scores.over_rate,
        "under_fn": scores.under_rate,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_class_accuracy": scores.mean_class_accuracy,
        "pixel_accuracy_kazuto": scores.pixel_accuracy,
        "mean_accuracy_kazuto": scores.mean_class_accuracy,
        "fwiou_kazuto": scores.frequency_weighted_iou,
    }.items():
        assert_rates(found, golden[name], name)
    assert scores.classes_counted == np.isfinite(golden["iou_chainercv"]).sum()


@pytest.mark.parametrize("file", PAIRS)
@pytest.mark.parametrize(("name", "average"), [("kazuto", "in_ground_truth"), ("yudewang", "all")])
def test_other_averages(file: Path, name: str, average: Average) -> None:
    golden = read(file)
    found, _ = mean_iou(golden["confusion"], average)
    assert_rates(found, golden[f"miou_{name}"])
    iou = intersection_over_union(golden["confusion"], average)
    assert_rates(iou, golden[f"iou_{name}"])


@pytest.mark.parametrize("file", PAIRS)
def test_void_predictions_ignored(file: Path) -> None:
    golden = read(file)
    matrix = count(golden, range(int(golden["n_images"])), "ignored")
    scores = compute_scores(matrix, "in_ground_truth")
    assert_rates(scores.iou, golden["iou_pred255_ignored"])
    assert_rates(scores.mean_iou, golden["miou_pred255_ignored"])


@pytest.mark.parametrize("file", SWEEPS)
def test_threshold_sweep(file: Path) -> None:
    golden = read(file)
    sweep = ThresholdSweep(golden["iou"].shape[1], golden["thresholds"].tolist())
    for index in range(int(golden["n_images"])):
        maps = golden[f"cam_u8_{index}"].astype(np.float32) / np.float32(255)
        sweep.update(golden[f"gt_{index}"], maps, golden[f"keys_{index}"][1:])
    matrices = sweep.matrices()
    assert_rates(intersection_over_union(matrices), golden["iou"])
    assert_rates(mean_iou(matrices)[0], golden["miou"])
    threshold, best = sweep.best_threshold()
    assert threshold == pytest.approx(float(golden["best_threshold"]), abs=1e-12)
    assert best == pytest.approx(float(golden["best_miou"]), abs=1e-12)
