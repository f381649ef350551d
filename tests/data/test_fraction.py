"""Fractions of a list: shares per class, nesting, and what the draw depends on."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protoseg.data.fraction import draw_fraction, draw_key
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.errors import InputError

FRACTIONS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
RARE = 5


def index_of(count: int = 600) -> DatasetIndex:
    """Images with up to three of classes 1 to 4; class 5 on three images alone, some have none."""
    random = np.random.default_rng(0)
    records = []
    for number in range(count):
        labels = {int(c) for c in random.integers(0, 5, random.integers(1, 4))} - {0}
        labels |= {RARE} if number in (10, 200, 333) else set()
        name = f"image{number}"
        records.append(ImageRecord(name, Path(name), None, (4, 4), tuple(sorted(labels))))
    return DatasetIndex("set", Path(), tuple("vwxyz"), {}, records, {})


INDEX = index_of()
IDS = list(INDEX.records)


def counts(ids: list[str]) -> Counter[int]:
    """Images per class; 0 counts those without labels."""
    return Counter(label for image_id in ids for label in INDEX[image_id].labels or (0,))


def slow_fraction(fraction: float, seed: int) -> list[str]:
    """Class by class: the first of its images in the common order."""
    kept = set()
    for label in range(6):
        own = [i for i in IDS if label in (INDEX[i].labels or (0,))]
        own.sort(key=lambda image_id: draw_key(image_id, seed))
        kept |= set(own[: max(1, round(fraction * len(own)))])
    return [image_id for image_id in IDS if image_id in kept]


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_draw_class_by_class(fraction: float, seed: int) -> None:
    assert draw_fraction(INDEX, IDS, fraction, seed) == slow_fraction(fraction, seed)


def test_the_whole_list() -> None:
    assert draw_fraction(INDEX, IDS, 1.0, 0) == IDS


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_every_class_has_its_share_and_the_whole_little_more(fraction: float) -> None:
    whole, drawn = counts(IDS), counts(draw_fraction(INDEX, IDS, fraction, 0))
    for label, size in whole.items():
        assert drawn[label] >= max(1, round(fraction * size))
    total = len(draw_fraction(INDEX, IDS, fraction, 0))
    assert fraction <= total / len(IDS) <= 1.5 * fraction


def test_a_smaller_fraction_lies_within_a_larger_one() -> None:
    for seed in range(5):
        subsets = [set(draw_fraction(INDEX, IDS, fraction, seed)) for fraction in FRACTIONS]
        for larger, smaller in pairwise(subsets):
            assert smaller < larger


def test_every_class_keeps_an_image() -> None:
    drawn = draw_fraction(INDEX, IDS, 1e-6, 0)
    assert set(counts(drawn)) == set(counts(IDS))
    assert len(drawn) <= 6


def test_the_draw_is_a_function_of_the_seed_and_the_set_of_ids() -> None:
    drawn = draw_fraction(INDEX, IDS, 1 / 4, 0)
    assert draw_fraction(INDEX, IDS, 1 / 4, 0) == drawn
    assert draw_fraction(INDEX, IDS[::-1], 1 / 4, 0) == drawn[::-1]
    assert len({tuple(draw_fraction(INDEX, IDS, 1 / 4, seed)) for seed in range(5)}) == 5


def test_each_image_is_drawn_by_some_seed() -> None:
    seen = {image_id for seed in range(40) for image_id in draw_fraction(INDEX, IDS, 1 / 4, seed)}
    assert seen == set(IDS)


def test_empty_list_and_wrong_fractions() -> None:
    assert draw_fraction(INDEX, [], 0.5, 0) == []
    for fraction in (0.0, -0.5, 1.5, 16, float("nan")):
        with pytest.raises(InputError, match="above 0, up to 1"):
            draw_fraction(INDEX, IDS, fraction, 0)
