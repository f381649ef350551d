"""Joint augmentation of an image and its label map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from protoseg.data.images import MEAN, STD
from protoseg.data.segmentation_transforms import augment_with_label, shift_colours

NEAREST = Image.Resampling.NEAREST


def example(height: int = 40, width: int = 57) -> tuple[Image.Image, NDArray[np.uint8]]:
    """A label map of noise and the image that shows it: every channel equals the label."""
    label = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    return Image.fromarray(np.repeat(label[:, :, None], 3, axis=2)), label


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("crop", [24, 48, 96])
def test_image_and_label_stay_aligned_and_padding_is_marked(seed: int, crop: int) -> None:
    image, label = example()
    random = np.random.default_rng(seed)
    pixels, target = augment_with_label(image, label, crop, (0.5, 1.5), random, NEAREST)
    assert pixels.shape == (3, crop, crop)
    assert pixels.dtype == torch.float32
    assert target.shape == (crop, crop)
    assert target.dtype == torch.int64
    padded = target == 255  # the example itself has no 255
    assert not pixels[:, padded].any()
    for channel in range(3):
        shown = (pixels[channel] * STD[channel] + MEAN[channel]) * 255
        torch.testing.assert_close(shown[~padded].round().long(), target[~padded])


@pytest.mark.parametrize("seed", range(8))
def test_the_generator_is_the_only_randomness(seed: int) -> None:
    image, label = example()
    first, second, other = (
        augment_with_label(image, label, 32, (0.5, 1.5), np.random.default_rng(number))
        for number in (seed, seed, seed + 100)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_inputs_are_not_changed() -> None:
    image, label = example()
    pixels, values = np.array(image), label.copy()
    label.flags.writeable = False
    augment_with_label(image, label, 32, (0.5, 1.5), np.random.default_rng(0))
    assert np.array_equal(np.array(image), pixels)
    assert np.array_equal(label, values)


def test_half_of_the_images_are_mirrored_and_every_offset_occurs() -> None:
    image, label = example(1, 3)
    label = np.array([[1, 2, 3]], dtype=np.uint8)
    random = np.random.default_rng(0)
    rows = [augment_with_label(image, label, 4, (1, 1), random)[1] for _ in range(400)]
    content = [tuple(int(v) for v in row[row != 255]) for row in rows]
    assert set(content) == {(1, 2, 3), (3, 2, 1)}
    assert 150 < content.count((3, 2, 1)) < 250
    corners = {tuple((row != 255).nonzero()[0].tolist()) for row in rows}
    assert corners == {(y, x) for y in range(4) for x in range(2)}


def test_scale_range() -> None:
    image, label = example(40, 40)
    random = np.random.default_rng(0)
    sides = []
    for _ in range(200):
        _, target = augment_with_label(image, label, 80, (0.5, 1.5), random)
        sides.append(int((target != 255).any(dim=0).sum()))
    assert 20 <= min(sides) <= 22
    assert 58 <= max(sides) <= 60


def test_bicubic_by_default() -> None:
    image, label = example()
    outcomes = [
        augment_with_label(image, label, 32, (1.5, 1.5), np.random.default_rng(0), *method)[0]
        for method in ((), (Image.Resampling.BICUBIC,), (Image.Resampling.BILINEAR,))
    ]
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_a_label_of_another_size_or_type_is_refused() -> None:
    image, label = example()
    random = np.random.default_rng(0)
    for wrong in (label.T, label.astype(np.int64), label[None]):
        with pytest.raises(ValueError, match=r"the image needs uint8 of shape \(40, 57\)"):
            augment_with_label(image, wrong, 32, (1, 1), random)  # type: ignore[arg-type]


def test_shifted_colours_written_out() -> None:
    red, grey = (200, 50, 50), (100, 100, 100)
    image = Image.new("RGB", (2, 1))
    image.putdata([red, grey])

    def pixels(*shifts: int) -> list[tuple[int, ...]]:
        return [tuple(p) for p in np.asarray(shift_colours(image, shifts))[0].tolist()]

    assert pixels(0, 0, 0) == [red, grey]
    assert pixels(0, 0, 20) == [(220, 55, 55), (120, 120, 120)]
    assert pixels(0, -255, 0) == [(200, 200, 200), grey]
    assert pixels(0, 0, -255) == [(0, 0, 0)] * 2
    (r, g, b), same = pixels(60, 0, 0)  # a third of the circle: red becomes green
    assert (r, g) == (50, 200)
    assert abs(b - 50) <= 3
    assert same == grey
    assert pixels(-60, 0, 0)[0][2] == 200


def test_colour_jitter_changes_colours_alone_and_zero_draws_nothing() -> None:
    image, label = example()
    plain, none, jittered = (
        augment_with_label(image, label, 96, (0.5, 1.5), random, NEAREST, *jitter)
        for random, jitter in zip(
            map(np.random.default_rng, [1] * 3), ((), (0,), (10,)), strict=True
        )
    )
    assert torch.equal(plain[0], none[0])
    assert torch.equal(plain[1], jittered[1])
    assert not torch.equal(plain[0], jittered[0])
    padded = plain[1] == 255
    assert not jittered[0][:, padded].any()
    shifts = ((jittered[0] - plain[0])[0] * STD[0] * 255).abs()
    assert 1 <= shifts.max() <= 30
