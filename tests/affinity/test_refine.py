"""Refined labels of several images: how many walk together changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_set import small_index, stored_maps

from protoseg.affinity.model import AffinityModel
from protoseg.affinity.refine import refine_labels
from protoseg.settings.schema import AffinitySettings, RefinedLabelsSettings


@pytest.mark.parametrize("background", [True, False])
def test_images_at_once_change_no_label(tmp_path: Path, background: bool) -> None:
    index = small_index(tmp_path, 7)
    ids, device = index.ids("train"), torch.device("cpu")
    torch.manual_seed(0)
    model = AffinityModel(AffinitySettings(backbone="mobilenet_v2"), "random").eval()
    given = (model, index, ids, stored_maps(index, tmp_path, background), RefinedLabelsSettings())
    one, three = (list(refine_labels(*given, device, count)) for count in (None, 3))
    assert [name for name, _ in three] == ids
    assert len({label for _, labels in one for label in np.unique(labels)}) > 1
    for (name, labels), (_, together) in zip(one, three, strict=True):
        assert labels.shape == index[name].size
        np.testing.assert_array_equal(together, labels)
