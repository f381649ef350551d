"""Training images of stage 1: reproducible augmentation, box of real pixels, label vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_set import small_index
from torch.utils.data import DataLoader

from protoseg.data.classification import ImageLabelDataset, augment, crop_box
from protoseg.data.images import MEAN, STD, normalize, read_image
from protoseg.settings.classifier import ClassifierSettings
from protoseg.training.order import EpochBatches

SETTINGS = ClassifierSettings(crop=32, long_side=(20, 48))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_item_is_a_function_of_seed_epoch_and_position(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    ids = index.ids("train")
    item = ImageLabelDataset(index, ids, SETTINGS, 0)[3, 1]
    assert same(ImageLabelDataset(index, ids, SETTINGS, 0)[3, 1], item)
    assert not torch.equal(ImageLabelDataset(index, ids, SETTINGS, 0)[4, 1]["image"], item["image"])
    assert not torch.equal(ImageLabelDataset(index, ids, SETTINGS, 1)[3, 1]["image"], item["image"])


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    dataset = ImageLabelDataset(index, index.ids("train"), SETTINGS, 0)
    batches = EpochBatches(len(dataset), 2, 0)
    loaders = [DataLoader(dataset, batch_sampler=batches, num_workers=n) for n in (0, 2)]
    for one, other in zip(*loaders, strict=True):
        assert same(one, other)


@pytest.mark.parametrize("size", [(20, 48), (48, 20), (30, 30), (64, 64), (1, 90)])
@pytest.mark.parametrize("seed", range(6))
def test_box_holds_the_real_pixels(size: tuple[int, int], seed: int) -> None:
    """Grey 255 is positive after normalisation, padding is 0."""
    image = Image.new("RGB", (size[1], size[0]), (255, 255, 255))
    pixels, box = augment(image, 32, (20, 48), np.random.default_rng(seed))
    assert pixels.shape == (3, 32, 32)
    y0, y1, x0, x1 = box.tolist()
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[y0:y1, x0:x1] = True
    assert inside.any()
    assert torch.equal((pixels > 0).all(0), inside)
    assert torch.equal((pixels == 0).all(0), ~inside)


def test_long_side_has_both_ends() -> None:
    image = Image.new("RGB", (10, 5), (255, 255, 255))
    found = set()
    for seed in range(40):
        _, box = augment(image, 64, (20, 22), np.random.default_rng(seed))
        y0, y1, x0, x1 = box.tolist()
        found.add((y1 - y0, x1 - x0))
    assert found == {(10, 20), (10, 21), (11, 22)}


def test_half_of_the_images_are_mirrored() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255
    image = Image.fromarray(pixels)
    left = [
        bool(augment(image, 8, (8, 8), np.random.default_rng(seed))[0][0, 0, 0] > 0)
        for seed in range(200)
    ]
    assert 70 < sum(left) < 130


def test_crop_box_stays_inside() -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        start, offset, length = crop_box(10, 6, random)
        assert (offset, length) == (0, 6)
        assert 0 <= start <= 4
        start, offset, length = crop_box(6, 10, random)
        assert (start, length) == (0, 6)
        assert 0 <= offset <= 4


def test_label_vector(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    dataset = ImageLabelDataset(index, index.ids("train"), SETTINGS, 0)
    assert len(dataset) == 6
    assert dataset[0, 0]["label"].tolist() == [1, 0, 0]
    assert dataset[0, 1]["label"].tolist() == [1, 1, 0]
    assert dataset[0, 2]["label"].tolist() == [0, 0, 1]


def test_normalisation_by_hand() -> None:
    pixels = np.array([[[255, 0, 128]]], np.uint8)
    expected = [(v / 255 - m) / s for v, m, s in zip((255, 0, 128), MEAN, STD, strict=True)]
    torch.testing.assert_close(normalize(pixels).flatten(), torch.tensor(expected))


def test_grey_images_become_rgb_and_broken_ones_are_named(tmp_path: Path) -> None:
    Image.new("L", (4, 3), 77).save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg").mode == "RGB"
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "grey.jpg").read_bytes()[:60])
    for name in ("broken.jpg", "absent.jpg"):
        with pytest.raises(OSError, match=rf"{name} cannot be read .*rerun index_dataset"):
            read_image(tmp_path / name)
