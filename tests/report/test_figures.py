"""Curves and panels: what is drawn, what is left out, and that files are reproducible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from protoseg.data.index import DatasetIndex, ImageRecord, write_index
from protoseg.data.palette import save_label_png, voc_palette
from protoseg.errors import InputError
from protoseg.report.curves import draw_curves, loss_curves, sweep_curves
from protoseg.report.drawing import line_styles
from protoseg.report.panels import draw_panels, open_column, overlay, row_cells
from protoseg.storage import ScaleMaps, write_results

NAMES = ["background", "cat", "dog"]


def write_history(path: Path, losses: dict[str, list[float]]) -> Path:
    epochs = len(next(iter(losses.values())))
    fixed = {
        "epoch": range(1, epochs + 1),
        "steps": 9,
        "seconds": 1.0,
        "data_wait": 0.02,
        "learning_rate": 0.1,
    }
    pd.DataFrame(fixed | losses).to_csv(path, index=False)
    return path


def write_sweep(path: Path, reading: str, rates: list[float | None]) -> Path:
    values = {
        "stage": "maps",
        "list": "train",
        "images": 9,
        "classes_counted": 3,
        "class_names": NAMES,
        "miou": 61.5,
        "iou": [1.0, 2.0, 3.0],
        "reading": reading,
        "sweep": {"thresholds": [0.1, 0.2, 0.3], "miou": rates},
    }
    path.write_text(json.dumps(values))
    return path


def test_loss_curves_show_means_of_seeds_and_total_first(tmp_path: Path) -> None:
    a = write_history(tmp_path / "a.csv", {"classification": [3.0, 1.0], "total": [4.0, 2.0]})
    b = write_history(tmp_path / "b.csv", {"classification": [1.0, 1.0], "total": [2.0, 1.0]})
    c = write_history(tmp_path / "c.csv", {"consistency": [0.5, 0.4], "total": [9.0, 8.0]})
    figure = loss_curves("classifier", {"cam": [a, b], "sipe": [c]})
    assert [axes.get_title() for axes in figure.axes] == ["total", "classification", "consistency"]
    total, classification, consistency = figure.axes
    lines = [np.asarray(line.get_ydata()).tolist() for line in total.lines]
    assert lines == [[3.0, 1.5], [9.0, 8.0]]
    assert [np.asarray(line.get_xdata()).tolist() for line in total.lines] == [[1, 2], [1, 2]]
    assert (len(classification.lines), len(consistency.lines)) == (1, 1)
    assert classification.lines[0].get_color() != consistency.lines[0].get_color()
    assert len(total.collections) == 1  # the range of the two seeds
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["cam", "sipe"]


def test_sweep_curve_marks_the_best_threshold_and_the_estimated_background(tmp_path: Path) -> None:
    cam = write_sweep(tmp_path / "cam.json", "best threshold 0.20", [40.0, 50.0, None])
    sipe = write_sweep(tmp_path / "sipe.json", "estimated background", [50.0, 55.0, 58.0])
    (axes,) = sweep_curves("maps", {"cam": [cam], "sipe": [sipe]}).axes
    dots = [line for line in axes.lines if len(np.column_stack(line.get_data())) == 1]
    assert [line.get_marker() for line in dots] == ["o", "o"]
    marked = [np.column_stack(line.get_data()).tolist() for line in dots]
    assert marked == [[[0.2, 50.0]], [[0.3, 58.0]]]
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert np.asarray(dashed.get_ydata()).tolist() == [61.5, 61.5]
    assert dashed.get_color() == dots[1].get_color()


def test_curve_files_are_reproducible_and_nameless(tmp_path: Path) -> None:
    history = write_history(tmp_path / "a.csv", {"total": [4.0, 2.0]})
    spec = {"title": "x", "kind": "history", "files": {"cam": str(history), "later": []}}
    for name in ("1.png", "2.png"):
        draw_curves(spec, tmp_path / name)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert "Software" not in image.info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pie"}, "choose one of history, sweep"),
        ({"files": {}}, "no files to draw"),
        ({"files": {"cam": "gone.csv"}}, "gone.csv cannot be read"),
    ],
)
def test_curve_errors(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    spec = {"title": "x", "kind": "history", "files": {"cam": "a.csv"}} | change
    with pytest.raises(InputError, match=message):
        draw_curves(spec, tmp_path / "x.png")


def test_styles_of_many_experiments_differ() -> None:
    styles = [(colour, style) for _, colour, style in line_styles(map(str, range(28)))]
    assert len(set(styles)) == 28


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """A wide image `a` with a mask, a tall one `b` without."""
    records = []
    for image_id, (height, width) in {"a": (8, 12), "b": (14, 10)}.items():
        pixels = np.full((height, width, 3), 100, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{image_id}.png")
        mask = None
        if image_id == "a":
            mask = tmp_path / "a_mask.png"
            label = np.zeros((height, width), np.uint8)
            label[:, 6:], label[0] = 2, 255
            save_label_png(mask, label)
        size = (height, width)
        records.append(ImageRecord(image_id, tmp_path / f"{image_id}.png", mask, size, (1, 2)))
    values = {0: 0, 1: 1, 2: 2, 255: 255}
    index = DatasetIndex("tiny", tmp_path, NAMES[1:], values, records, {"train": ["a", "b"]})
    write_index(index, tmp_path / "index")
    return index


def write_files(folder: Path) -> list[dict[str, Any]]:
    """Columns of every kind; the second maps are strongest in another class than the first."""
    for name, weak in (("cam", 1), ("sipe", 2)):
        with write_results(folder / f"{name}.h5", "maps", NAMES, "x") as writer:
            maps = np.ones((3, 2, 3), np.float32)
            maps[weak, :, 1:] = 0
            writer.write_maps("a", ScaleMaps((maps,), np.array([0, 1, 2]), (8, 12)))
    with write_results(folder / "labels.h5", "labels", NAMES, "x") as writer:
        writer.write_label("a", np.full((8, 12), 2, np.uint8))
    return [
        {"title": "image", "kind": "image"},
        {"title": "CAM", "kind": "maps", "file": str(folder / "cam.h5")},
        {"title": "IS-CAM", "kind": "maps", "file": [str(folder / "sipe.h5"), "rest.h5"]},
        {"title": "labels", "kind": "labels", "file": str(folder / "labels.h5")},
        {"title": "missing", "kind": "labels", "file": str(folder / "gone.h5")},
        {"title": "ground truth", "kind": "ground_truth"},
    ]


def test_a_row_of_panels(index: DatasetIndex, tmp_path: Path) -> None:
    opened = [column for column in map(open_column, write_files(tmp_path)) if column is not None]
    assert [c.title for c in opened] == ["image", "CAM", "IS-CAM", "labels", "ground truth"]
    (image, cam, is_cam, labels, truth), shown = row_cells(index, "a", opened)
    assert (image.pixels == 100).all()
    assert (cam.class_name, is_cam.class_name) == ("dog", "dog")
    assert not np.array_equal(cam.pixels, is_cam.pixels)
    assert (labels.pixels == voc_palette()[2]).all()
    assert truth.pixels[4, 2].tolist() == [0, 0, 0]
    assert truth.pixels[0, 0].tolist() == voc_palette()[255].tolist()
    assert shown == {0, 2, 255}


def test_cells_without_a_result_are_empty(index: DatasetIndex, tmp_path: Path) -> None:
    opened = [column for column in map(open_column, write_files(tmp_path)) if column is not None]
    cells, shown = row_cells(index, "b", opened)
    assert (cells[0].pixels == 100).all()
    assert all(
        (cell.pixels == 244).all() and cell.pixels.shape == (14, 10, 3) for cell in cells[1:]
    )
    assert shown == set()


def test_panels_file(index: DatasetIndex, tmp_path: Path) -> None:
    spec = {"title": "tiny", "index": str(tmp_path / "index"), "columns": write_files(tmp_path)}
    draw_panels(spec | {"images": ["a", "b"]}, tmp_path / "1.png")
    draw_panels(spec | {"images": "train[2]"}, tmp_path / "2.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    draw_panels(spec | {"images": ["b"]}, tmp_path / "b.png")
    with Image.open(tmp_path / "1.png") as both, Image.open(tmp_path / "b.png") as only_b:
        assert both.width > 4 * only_b.width  # for b alone, only its image is left
        assert both.height > only_b.height


def test_panel_errors(index: DatasetIndex, tmp_path: Path) -> None:
    write_files(tmp_path)
    with pytest.raises(InputError, match="choose one of image, maps, labels, ground_truth"):
        open_column({"title": "x", "kind": "cam"})
    with pytest.raises(InputError, match="holds maps"):
        open_column({"title": "x", "kind": "labels", "file": str(tmp_path / "cam.h5")})
    spec = {"index": str(tmp_path / "index"), "images": ["b"], "columns": []}
    with pytest.raises(InputError, match="nothing to draw"):
        draw_panels(spec, tmp_path / "x.png")


def test_overlay_keeps_the_image_visible() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = 255
    cold, hot = (overlay(pixels, np.full((2, 2), heat, np.float32)) for heat in (0, 1))
    assert cold[0].sum() > cold[1].sum()
    assert (hot[..., 0] > cold[..., 0]).all()
    assert hot.dtype == np.uint8
