"""Pseudo labels of several images: processes change nothing, settings reach the CRF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_set import small_index, stored_maps

from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError
from protoseg.pseudo_labels.generate import make_pseudo_labels
from protoseg.settings.schema import PseudoLabelsSettings
from protoseg.storage import ResultReader

SETTINGS = PseudoLabelsSettings()
Found = list[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]


def labels(
    index: DatasetIndex,
    reader: ResultReader,
    settings: PseudoLabelsSettings = SETTINGS,
    workers: int = 1,
    ids: Sequence[str] | None = None,
) -> Found:
    chosen = index.ids("train") if ids is None else ids
    return list(make_pseudo_labels(index, chosen, reader, settings, workers))


def changed(key: str) -> PseudoLabelsSettings:
    values: dict[str, Any] = {key: 0.9}
    return replace(SETTINGS, **values)


def equal(one: Found, other: Found) -> bool:
    return all(
        a[0] == b[0] and np.array_equal(a[1], b[1]) and np.array_equal(a[2], b[2])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("background", [True, False])
def test_labels_of_present_classes_in_order(tmp_path: Path, background: bool) -> None:
    index = small_index(tmp_path)
    found = labels(index, stored_maps(index, tmp_path, background))
    assert [image_id for image_id, _, _ in found] == index.ids("train")
    for image_id, scored, ir_label in found:
        assert scored.shape == ir_label.shape == index[image_id].size
        assert scored.dtype == ir_label.dtype == np.uint8
        assert set(np.unique(scored)) <= {0, *index[image_id].labels}
        assert set(np.unique(ir_label)) <= {0, 255, *index[image_id].labels}


def test_processes_change_nothing(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    reader = stored_maps(index, tmp_path, True)
    assert equal(labels(index, reader), labels(index, reader, workers=2))


@pytest.mark.parametrize(
    ("background", "used", "unused"),
    [
        (True, ["background_factor", "ir_background_factor"], ["foreground_threshold"]),
        (False, ["foreground_threshold", "background_threshold"], ["background_factor"]),
    ],
)
def test_kind_of_maps_decides_which_scores_count(
    tmp_path: Path, background: bool, used: list[str], unused: list[str]
) -> None:
    index = small_index(tmp_path)
    reader = stored_maps(index, tmp_path, background)
    published = labels(index, reader)
    for key in used:
        assert not equal(labels(index, reader, changed(key)), published)
    for key in unused:
        assert equal(labels(index, reader, changed(key)), published)


@pytest.mark.parametrize("background", [True, False])
def test_scored_pass_changes_what_is_scored_alone(tmp_path: Path, background: bool) -> None:
    index = small_index(tmp_path)
    reader = stored_maps(index, tmp_path, background)
    published = labels(index, reader)
    other = labels(index, reader, replace(SETTINGS, scored_pass="background"))
    assert any((a[1] != b[1]).any() for a, b in zip(published, other, strict=True))
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(published, other, strict=True))


def test_missing_maps_are_told_first(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    reader = stored_maps(index, tmp_path, True)
    with pytest.raises(InputError, match=r"lacks 1 ids of .*first: image9"):
        labels(index, reader, ids=["image0", "image9"])
