"""Compilation: where a setting asks for it, in place, one graph, the same keys of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_job import AFFINITY, CAM, SEGMENTER
from small_set import small_index
from torch import nn

from protoseg.affinity.model import AffinityModel
from protoseg.affinity.train import train_affinity
from protoseg.backbones import build_backbone
from protoseg.backbones.base import Backbone
from protoseg.data.labelled import LabelledDataset
from protoseg.localization.train import train_classifier
from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.segmentation.train import train_segmenter


def classifier(folder: Path) -> None:
    settings = replace(CAM, prototypes="image", regions=2, epochs=1, compile=True)
    index = small_index(folder, 4)
    train_classifier(index, index.lists["train"], settings, 0, **common(folder))


def affinity(folder: Path) -> None:
    settings = replace(AFFINITY, epochs=1, compile=True)
    train_affinity(labelled(folder), settings, 0, classifier=None, **common(folder))


def segmenter(folder: Path) -> None:
    settings = replace(SEGMENTER, iterations=1, compile=True)
    train_segmenter(labelled(folder), settings, 0, classifier=None, **common(folder))


def common(folder: Path) -> dict[str, Any]:
    return {"workers": 0, "fingerprint": "", "checkpoint": folder / "checkpoint.pt"}


def labelled(folder: Path) -> LabelledDataset:
    index = small_index(folder, 4)
    return LabelledDataset(index, index.lists["train"], index.read_mask, 64, (0.5, 1.5), 0)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that torch is asked to compile, which it then leaves as they are."""
    modules: list[nn.Module] = []

    def record(call: Any) -> Any:
        modules.append(call.__self__)
        return call

    monkeypatch.setattr(torch, "compile", record)
    return modules


@pytest.mark.parametrize(
    ("train", "kinds"),
    [
        (classifier, [Backbone, Backbone]),  # of both regions
        (affinity, [AffinityModel]),
        (segmenter, [DeepLabV2]),
    ],
)
def test_trainings_compile_where_asked(
    train: Callable[[Path], None], kinds: list[type], tmp_path: Path, compiled: list[nn.Module]
) -> None:
    train(tmp_path)
    assert [isinstance(*pair) for pair in zip(compiled, kinds, strict=True)] == [True] * len(kinds)


def test_a_backbone_is_one_graph() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "random").train()
    keys, images = list(backbone.state_dict()), torch.rand(1, 3, 32, 32)
    expected = backbone(images)
    backbone.compile(backend="eager", fullgraph=True)
    found = backbone(images)
    assert list(backbone.state_dict()) == keys
    assert [stage.requires_grad for stage in found] == [False, False, False, True, True]
    for stage, value in zip(found, expected, strict=True):
        assert torch.equal(stage, value)
