"""Presets: complete recipes, between a base and an experiment's own settings, and what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_set import small_index
from torch import nn

from protoseg.data.labelled import LabelledDataset, ground_truth
from protoseg.segmentation.optimization import parameter_groups
from protoseg.segmentation.train import build_segmenter
from protoseg.settings.experiments import DEFAULTS_SCHEMA, SCHEMAS, read_experiments
from protoseg.settings.fields import from_mapping
from protoseg.settings.presets import PRESETS
from protoseg.settings.schema import SegmenterSettings
from protoseg.settings.validation import schema_problems
from protoseg.training.schedule import poly_factor

STAGES = {"segmenter", "predictions", "predictions_crf"}
# No part of a recipe.
OWN = {"labels", "weights", "init", "precision", "compile", "minimum_probability"}


def settings_of(experiments: dict[str, Any], **rest: Any) -> dict[str, Any]:
    found, problems = read_experiments({"experiments": experiments, **rest})
    assert problems == []
    return found.settings


def segmenter_of(preset: str) -> SegmenterSettings:
    settings = settings_of({"x": {"preset": preset}})["x"]["segmenter"]
    found: SegmenterSettings = from_mapping(SegmenterSettings, settings)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_names_every_setting_of_a_recipe(name: str) -> None:
    stages = {key: value for key, value in PRESETS[name].items() if key != "description"}
    assert PRESETS[name]["description"].endswith(".")
    assert schema_problems(stages, DEFAULTS_SCHEMA, name) == []
    found = {stage: set(values) for stage, values in stages.items()}
    assert found == {stage: set(SCHEMAS[stage]["properties"]) - OWN for stage in STAGES}


def test_a_preset_stands_between_the_base_and_the_own_settings() -> None:
    found = settings_of(
        {
            "a": {"segmenter": {"labels": "pseudo_labels", "crop": 100}},
            "b": {"base": "a", "preset": "large_fov", "segmenter": {"backbone": "resnet50"}},
            "c": {"base": "b", "preset": "deeplab_v2"},
            "d": {"base": "b"},
        },
        defaults={"preset": "deeplab_v2_balanced", "predictions": {"flip": True}},
    )
    assert found["a"]["segmenter"]["loss"] == "balanced"
    assert found["a"]["predictions"]["flip"]
    assert found["b"]["segmenter"]["labels"] == "pseudo_labels"
    assert (found["b"]["segmenter"]["crop"], found["b"]["segmenter"]["backbone"]) == (
        448,
        "resnet50",
    )
    assert (found["b"]["predictions"]["fusion"], found["b"]["predictions_crf"]["iterations"]) == (
        "mean",
        1,
    )
    fresh = settings_of({"x": {"preset": "deeplab_v2", "segmenter": {"labels": "pseudo_labels"}}})
    assert found["c"] == fresh["x"]
    assert found["d"] == found["b"]


def test_unknown_presets_are_problems_and_the_own_one_is_remembered() -> None:
    found, problems = read_experiments(
        {
            "experiments": {
                "x": {"preset": "deeplab"},
                "y": {"preset": "large_fov"},
                "z": {"base": "y"},
            }
        }
    )
    assert len(problems) == 1
    assert problems[0].startswith("experiments.x.preset: 'deeplab' is not one of [")
    assert found.presets == {"y": "large_fov"}


def test_defaults_are_the_preset_of_deeplab_v2() -> None:
    found = settings_of({"plain": {}, "preset": {"preset": "deeplab_v2"}})
    assert found["plain"] == found["preset"]


@pytest.mark.parametrize(
    ("preset", "head", "rates", "steps"),
    [
        ("deeplab_v2", "branches", [2.5e-4, 2.5e-3, 5e-3], (0, 0, 10)),
        ("deeplab_v2_balanced", "branches", [2.5e-4, 2.5e-3, 5e-3], (0, 0, 10)),
        ("large_fov", "fov1_conv", [1e-3, 1e-2, 2e-2], (0, 9, 10)),
    ],
)
def test_networks_groups_and_schedules(
    preset: str, head: str, rates: list[float], steps: tuple[int, ...]
) -> None:
    settings = segmenter_of(preset)
    with torch.device("meta"):
        network = build_segmenter(settings, 21, "random").train()
    assert head in dict(network.head.named_children())
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    groups = parameter_groups(
        network, settings.learning_rate, settings.weight_decay, settings.momentum
    )
    assert [group["lr"] for group in groups] == pytest.approx(rates)
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0]
    assert {group["momentum"] for group in groups} == {0.9}
    for step, same in zip((0, 9, 10), steps, strict=True):
        factor = poly_factor(step, settings.iterations, block=settings.schedule_block)
        assert factor == poly_factor(same, settings.iterations)


@pytest.mark.parametrize(("preset", "crop"), [("deeplab_v2", 321), ("large_fov", 448)])
def test_crops_and_colours(tmp_path: Path, preset: str, crop: int) -> None:
    settings, index = segmenter_of(preset), small_index(tmp_path)
    ids = index.ids("train")
    read = ground_truth(index, ids, "train")
    common = (index, ids, read, settings.crop, settings.scale, 0)
    resample = Image.Resampling[settings.interpolation.upper()]
    item = LabelledDataset(*common, settings.hsv_jitter, resample)[0, 0]
    assert item["image"].shape == (3, crop, crop)
    plain = LabelledDataset(*common, resample=Image.Resampling.BILINEAR)[0, 0]
    assert torch.equal(item["label"], plain["label"])
    assert torch.equal(item["image"], plain["image"]) == (preset == "deeplab_v2")
    assert not torch.equal(LabelledDataset(*common)[0, 0]["image"], plain["image"])  # bicubic
