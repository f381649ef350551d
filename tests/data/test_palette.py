"""VOC's colours and indexed PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protoseg.data.palette import load_label_png, save_label_png, voc_palette


def test_known_colours() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {label: tuple(palette[label].tolist()) for label in known} == known


def test_colours_differ() -> None:
    assert len(np.unique(voc_palette(), axis=0)) == 256


@pytest.mark.parametrize("transposed", [False, True])
def test_round_trip(tmp_path: Path, transposed: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (13, 29)).astype(np.uint8)
    labels = labels.T if transposed else labels
    file = tmp_path / "mask.png"
    save_label_png(file, labels)
    with Image.open(file) as image:
        assert image.mode == "P"
        assert image.size == (labels.shape[1], labels.shape[0])
        np.testing.assert_array_equal(np.array(image), labels)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), voc_palette()[labels])
    np.testing.assert_array_equal(load_label_png(file), labels)


def test_few_labels_keep_their_index(tmp_path: Path) -> None:
    labels = np.array([[0, 20, 255]], np.uint8)
    save_label_png(tmp_path / "mask.png", labels)
    np.testing.assert_array_equal(load_label_png(tmp_path / "mask.png"), labels)


def test_grey_masks_are_read(tmp_path: Path) -> None:
    labels = np.array([[0, 3], [255, 80]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(load_label_png(tmp_path / "grey.png"), labels)


def test_colour_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match=r"colours.png: mode RGB"):
        load_label_png(tmp_path / "colours.png")


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8)])
def test_other_arrays_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"mask.png: a label map"):
        save_label_png(tmp_path / "mask.png", labels)
    assert not (tmp_path / "mask.png").exists()
