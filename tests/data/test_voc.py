"""The VOC layout: labels, masks, lists, subsets, and every problem at once."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from protoseg.data.checks import DatasetError, check_image
from protoseg.data.palette import save_label_png
from protoseg.data.voc import DEMO_CLASSES, VOC_CLASSES, dataset_settings, index_voc, mask_values
from protoseg.settings.schema import DatasetSettings

LABELS = {"a": ["dog", "dog"], "b": ["person", "cat"], "c": ["boat"], "d": ["cat", "boat"]}
LISTS = {"train_aug": ["d", "c", "b", "a"], "train": ["b", "c"], "val": ["a"]}
CLASSES = ("person", "cat", "dog")


def draw(root: Path, image_id: str, names: list[str], folder: str = "SegmentationClassAug") -> None:
    """One image of noise, its annotation, and a mask of a row per name."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>1</difficult>"
        "<part><name>head</name></part></object>"
        for name in names
    )
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    mask = np.zeros((40, 60), np.uint8)
    mask[-1] = 255
    for row, name in enumerate(names):
        mask[row] = VOC_CLASSES.index(name) + 1
    save_label_png(root / folder / f"{image_id}.png", mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folders = ["Annotations", "JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    for image_id, names in LABELS.items():
        draw(tmp_path, image_id, names)
    for name, ids in LISTS.items():
        path = tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text("\n".join(ids) + "\n")
    return tmp_path


def settings(root: Path, **values: Any) -> DatasetSettings:
    values = {"name": "tiny", "kind": "voc", "root": str(root), "classes": CLASSES} | values
    return DatasetSettings(**values)


def problems(root: Path, **values: Any) -> list[str]:
    with pytest.raises(DatasetError) as error:
        index_voc(settings(root, **values), workers=2)
    assert all(line in str(error.value) for line in error.value.problems)
    return error.value.problems


def test_labels_come_from_objects_not_parts(root: Path) -> None:
    index = index_voc(settings(root), workers=2)
    assert index["b"].labels == (1, 2)
    assert index["d"].labels == (2,)  # the boat is outside the subset
    assert index["a"].size == (40, 60)
    assert_array_equal(index.label_vector("a"), [0, 0, 1])


def test_lists_keep_their_order_and_drop_what_is_outside(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        index = index_voc(settings(root), workers=1)
    assert index.ids("train_aug") == ["d", "b", "a"]
    assert index.ids("train") == ["b"]
    assert "train_aug: 3 images; left out without our classes: 1" in caplog.text
    assert "1 images of val are trained on" in caplog.text


def test_images_of_val_that_later_networks_train_on_are_reported(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    apart = settings(root, train_list="train", labels_list="train")
    index_voc(apart, workers=1)
    assert "are trained on" not in caplog.text
    index_voc(dataclasses.replace(apart, labels_list="train_aug"), workers=1)
    assert "1 images of val are trained on" in caplog.text


def test_masks_follow_the_subset(root: Path) -> None:
    index = index_voc(settings(root), workers=1)
    mask = index.read_mask("d")
    assert_array_equal(mask[[0, 1, 2, -1], 0], [2, 255, 0, 255])


def test_no_classes_mean_all_twenty(root: Path) -> None:
    index = index_voc(settings(root, classes=()), workers=1)
    assert index.classes == VOC_CLASSES
    assert index.ids("train") == ["b", "c"]
    assert index.mask_values == {0: 0, 255: 255} | {value: value for value in range(1, 21)}


def test_values_of_classes_with_other_names_are_their_order() -> None:
    assert mask_values(["nut", "bolt"], VOC_CLASSES) == {0: 0, 1: 1, 2: 2, 255: 255}
    last = DEMO_CLASSES[-1]
    value = len(DEMO_CLASSES)
    expected = {0: 0, 255: 255} | dict.fromkeys(range(1, value), 255) | {value: 1}
    assert mask_values([last], DEMO_CLASSES) == expected


def test_the_folder_of_masks_is_a_setting(root: Path) -> None:
    (root / "SegmentationClass").mkdir()
    draw(root, "a", ["person"], "SegmentationClass")
    draw(root, "a", ["dog"])
    draw(root, "b", ["cat"], "SegmentationClass")
    augmented = index_voc(settings(root, masks="SegmentationClassAug"), 1)
    assert augmented.read_mask("a")[0, 0] == 3
    official = index_voc(settings(root, masks="SegmentationClass"), 1)
    assert official.read_mask("a")[0, 0] == 1
    assert official["d"].mask is None  # trained on, never scored
    either = index_voc(settings(root), 1)
    assert either.read_mask("a")[0, 0] == 1
    assert either.read_mask("d")[1, 0] == augmented.read_mask("d")[1, 0] == 255


def test_every_problem_is_listed_at_once(root: Path) -> None:
    image = root / "JPEGImages" / "b.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    draw(root, "x", ["cat"])
    (root / "JPEGImages" / "x.jpg").unlink()
    (root / "SegmentationClassAug" / "x.png").unlink()
    (root / "Annotations" / "c.xml").write_text("<annotation></annotation>")
    (root / "Annotations" / "d.xml").write_text("<annotation><object><name>catt</name></object>")
    draw(root, "y", ["cat"])
    xml = root / "Annotations" / "y.xml"
    xml.write_text(xml.read_text().replace("cat", "gnu"))
    save_label_png(root / "SegmentationClassAug" / "a.png", np.full((40, 61), 37, np.uint8))
    Image.new("RGB", (60, 40)).save(root / "SegmentationClassAug" / "d.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\na\nx\nd 1\ny\nno_such\n")
    found = problems(root)
    expected = {
        "val.txt: 1 ids stand there more than once",
        "val.txt: 'd 1' is no id",
        "c.xml: id without a label",
        "d.xml: not readable XML",
        "y.xml: label 'gnu' is outside the classes",
        "no_such.xml: no such annotation",
        "b.jpg: not a whole image",
        "a.png: mask is 61x40, its image 60x40",
        "a.png: mask holds 37, which no class has",
        "d.png: not a readable mask",
        "x.jpg: no such image",
        "no_such.jpg: no such image",
        "x: no mask, but its list is scored",
        "no_such: no mask, but its list is scored",
    }
    for text in expected:
        assert len([line for line in found if text in line]) == 1, text
    assert len(found) == len(expected)


def test_a_mistyped_class_is_named(root: Path) -> None:
    assert any(
        "'cats' is no label of any image" in line for line in problems(root, classes=("cats",))
    )


def test_absent_lists_and_folders_are_named(root: Path) -> None:
    assert any("test.txt: no such list" in line for line in problems(root, val_list="test"))
    (root / "ImageSets/Segmentation/val.txt").write_text("")
    assert any("val.txt: the list is empty" in line for line in problems(root))
    assert "mend dataset.root" in problems(root / "nowhere")[0]
    assert "run draw_demo_set" in problems(root / "nowhere", kind="demo")[0]


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncation_is_found_wherever_it_is(root: Path, kept: float) -> None:
    image = root / "JPEGImages" / "b.jpg"
    content = image.read_bytes()
    image.write_bytes(content[: int(len(content) * kept)])
    assert check_image(image).size is None
    image.write_bytes(content)
    assert check_image(image).size == (40, 60)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 17)])
def test_small_and_grey_images_pass(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size).save(tmp_path / "grey.jpg", progressive=True)
    assert check_image(tmp_path / "grey.jpg").size == size[::-1]


def test_the_settings_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"dataset": {"name": "x", "clases": []}}))
    with pytest.raises(
        DatasetError, match=r"unknown settings clases under dataset; known: .*classes"
    ):
        dataset_settings(path)
    path.write_text(json.dumps({"dataset": {"name": "x", "classes": ["cat"]}}))
    assert dataset_settings(path) == DatasetSettings(name="x", classes=("cat",))
    path.write_text("{}")
    with pytest.raises(DatasetError, match="no settings under dataset"):
        dataset_settings(path)


def test_images_of_the_test_list_need_neither_annotation_nor_mask(root: Path) -> None:
    for name in ("e", "f"):
        Image.new("RGB", (50, 30)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("f\ne\n")
    index = index_voc(settings(root, test_list="test"), workers=2)
    assert index.ids("test") == ["f", "e"]
    assert (index["e"].mask, index["e"].labels, index["e"].size) == (None, (), (30, 50))
    assert index["b"].labels == (1, 2)
    assert problems(root, test_list="tests")[0].endswith("name another one in the settings")
    assert "test" not in index_voc(settings(root), workers=2).lists
    (root / "JPEGImages" / "e.jpg").unlink()
    assert len(problems(root, test_list="test")) == 1
