"""The generated demo set: deterministic, tags and masks agree, the head is a small part."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protoseg.data.checks import DatasetError
from protoseg.data.demo import OVERLAP, Scene, arrange, background, draw_image, emblem, paint_figure
from protoseg.data.demo_set import draw_demo_set
from protoseg.data.index import DatasetIndex
from protoseg.data.voc import DEMO_CLASSES, index_voc
from protoseg.settings.schema import DatasetSettings

TRAIN, VAL, SIZE = 27, 6, 96


def settings(root: Path) -> DatasetSettings:
    return DatasetSettings(name="demo", kind="demo", root=str(root))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "set"
    draw_demo_set(folder, TRAIN, VAL, SIZE, seed=3)
    return folder


@pytest.fixture(scope="module")
def index(root: Path) -> DatasetIndex:
    return index_voc(settings(root), workers=1)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_equal_arguments_give_equal_files(root: Path, tmp_path: Path) -> None:
    draw_demo_set(tmp_path / "longer", TRAIN + 9, VAL, SIZE, seed=4)
    draw_demo_set(tmp_path / "longer", TRAIN, VAL, SIZE, seed=3)  # replaces the former
    assert contents(tmp_path / "longer") == contents(root)


def test_another_seed_draws_other_images(root: Path, tmp_path: Path) -> None:
    draw_demo_set(tmp_path, TRAIN, VAL, SIZE, seed=4)
    first = "JPEGImages/demo_00000.jpg"
    assert contents(tmp_path)[first] != contents(root)[first]


def test_lists(index: DatasetIndex) -> None:
    train, scored, val = (index.ids(name) for name in ("train_aug", "train", "val"))
    assert len(train) == TRAIN
    assert VAL / 2 <= len(val) <= VAL
    assert not set(train) & set(val)
    assert TRAIN / 6 <= len(scored) <= TRAIN / 3
    assert set(scored) < set(train)
    for ids in (scored, val):
        assert all({1, 2, 3} & set(index[name].labels) for name in ids)
        assert {1, 2, 3} <= {label for name in ids for label in index[name].labels}


def test_images_without_emblem_can_be_kept_as_examples_of_no_class(root: Path) -> None:
    chosen = replace(settings(root), classes=DEMO_CLASSES[:3], keep_unlabelled=True)
    kept = index_voc(chosen, workers=1)
    assert len(kept.ids("train_aug")) == TRAIN
    assert any(kept[name].labels == () for name in kept.ids("train_aug"))
    assert all(kept[name].labels for name in kept.ids("train") + kept.ids("val"))
    dropped = index_voc(replace(chosen, keep_unlabelled=False), workers=1)
    assert all(dropped[name].labels for name in dropped.ids("train_aug"))


def test_tags_are_what_the_masks_hold(index: DatasetIndex) -> None:
    for image_id, record in index.records.items():
        present = set(np.unique(index.read_mask(image_id)).tolist())
        assert present == {0, *record.labels}
        assert max(record.size) <= SIZE
    assert len({record.size for record in index.records.values()}) > 3


@pytest.mark.parametrize("seed", range(6))
def test_the_head_is_a_small_part_and_looks_like_the_body(seed: int) -> None:
    random = np.random.default_rng(seed)
    (figure,) = arrange([seed % 3 + 1], (128, 128), random)
    scene = Scene(random.random(), saturation=0.5, value=0.7, wavelength=6.0)
    image = paint_figure(background((128, 128), scene, random), figure, scene, random)
    inside = figure.outline < 0
    head = inside & (figure.head < 0)
    sign = emblem(DEMO_CLASSES[figure.class_id - 1], figure.along, figure.across)
    assert 0.14 < head.sum() / inside.sum() < 0.24
    assert 0.2 < (sign & head).sum() / head.sum() < 0.75
    body, ground, outside = (
        image[where].mean(0) for where in (inside & ~head, head & ~sign, ~inside)
    )
    assert np.linalg.norm(body - ground) < 0.5 * np.linalg.norm(body - outside)


def test_two_objects_keep_their_heads() -> None:
    for seed in range(8):
        figures = arrange([1, 2], (128, 128), np.random.default_rng(seed))
        for earlier, later in pairwise(figures):
            hidden = (earlier.outline < 0) & (later.outline < 0)
            assert hidden.sum() <= OVERLAP * (earlier.outline < 0).sum()


def test_mask_counts_the_later_object_on_top() -> None:
    pixels, mask, drawn = draw_image([1, 3], (96, 128), np.random.default_rng(5))
    assert pixels.shape == (96, 128, 3)
    assert pixels.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask).tolist()) == {0, *drawn}


def test_a_folder_of_other_images_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    other = tmp_path / "JPEGImages" / "2007_000032.jpg"
    other.write_bytes(b"image")
    with pytest.raises(DatasetError, match=r"holds other files \(2007_000032\.jpg\)"):
        draw_demo_set(tmp_path, 3, 3, SIZE, seed=0)
    assert other.read_bytes() == b"image"
