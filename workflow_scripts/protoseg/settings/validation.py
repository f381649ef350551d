"""Problems of a configuration as sentences: the path, what is wrong, and the nearest known name.

In: parts of a configuration and their JSON schemas. Out: lists of problems, which `SettingsError`
shows all at once. Imports neither torch nor numpy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jsonschema

from protoseg.errors import InputError


class SettingsError(InputError):
    """Every problem of a configuration at once, one per line."""

    def __init__(self, problems: list[str]) -> None:
        lines = "\n  ".join(problems)
        super().__init__(f"{len(problems)} problem(s) in the configuration:\n  {lines}")
        self.problems = problems


def schema_problems(values: Any, schema: dict[str, Any], where: str) -> list[str]:
    """Validation errors of ``values``, each with its path and, for a typo, the nearest key."""
    problems = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(values):
        path = ".".join([where, *map(str, error.absolute_path)])
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            for key in sorted(set(error.instance) - set(known), key=str):
                problems.append(f"{path}.{key}: unknown setting{nearest(key, known)}")
        elif error.validator == "pattern":
            problems.append(f"{path}: {error.instance!r} is not {error.schema['description']}")
        else:
            problems.append(f"{path}: {error.message}")
    return problems


def nearest(key: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the closest known name, or nothing."""
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def well_formed(
    values: Any, schema: dict[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """The entries of ``values`` that fit ``schema`` by themselves, and the problems of the others.

    So what is wrong in one place does not hide what is wrong in another.
    """
    if values is None:
        return {}, []
    if not isinstance(values, dict):
        return {}, schema_problems(values, schema, where)
    fitting = {k: v for k, v in values.items() if not schema_problems({k: v}, schema, where)}
    return fitting, schema_problems(values, schema, where)


def impossible_combinations(settings: dict[str, dict[str, Any]]) -> list[str]:
    """Settings of one experiment that are valid alone but not together, each with the reason."""
    problems = []
    classifier, maps = settings["classifier"], settings["maps"]
    if maps.get("source") == "prototypes" and classifier.get("prototypes") != "image":
        problems.append(
            "maps.source: prototypes need side branches, which only classifier.prototypes: image "
            "has; use it, with consistency: false if the loss is not wanted"
        )
    if maps.get("class_prototype_share") and (
        classifier.get("prototypes") != "image" or maps.get("source") == "cam"
    ):
        problems.append(
            "maps.class_prototype_share: it blends into the image's own prototypes; use "
            "classifier.prototypes: image and another maps.source than cam, or a share of 0"
        )
    problems += part_problems(classifier)
    for name in ("classifier", "maps"):
        semantic = classifier.get("prototype_feature") == "semantic"
        if semantic and settings[name].get("structure_feature") == "hierarchical":
            problems.append(
                f"{name}.structure_feature: nothing trains the hierarchical feature with "
                "prototype_feature: semantic; use semantic"
            )
    problems += refinement_problems(classifier)
    problems += affinity_problems(settings["affinity"], settings["refined_labels"])
    problems += head_problems(settings["segmenter"])
    for stage in ("affinity", "segmenter"):
        same = settings[stage].get("backbone") == classifier.get("backbone")
        if settings[stage].get("weights") == "classifier" and not same:
            problems.append(
                f"{stage}.weights: classifier needs {stage}.backbone to be the "
                f"classifier's, {classifier.get('backbone')}"
            )
    for stage, key in (("classifier", "long_side"), ("affinity", "scale"), ("segmenter", "scale")):
        low, high = (*settings[stage].get(key, ()), 0, 0)[:2]
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            problems.append(f"{stage}.{key}: {low} is above {high}")
    return problems


def part_problems(classifier: dict[str, Any]) -> list[str]:
    """Parts of the methods that exclude each other, or that nothing would train."""
    problems = []
    prototypes, attention = classifier.get("prototypes"), classifier.get("attention")
    if attention != "none" and prototypes == "none":
        problems.append(
            "classifier.attention: it weighs the features of prototypes, and classifier.prototypes "
            "is none; use image or pairs"
        )
    if attention == "self" and prototypes == "pairs":
        problems.append(
            "classifier.attention: self attention reads detached features, so the classifier of "
            "pairs would teach the backbone nothing; use sfa, spatial or pooled"
        )
    if attention != "none" and prototypes == "image":
        if not classifier.get("consistency"):
            problems.append(
                "classifier.attention: it learns from the consistency loss alone, which "
                "consistency: false leaves out"
            )
        if classifier.get("prototype_feature") == "semantic":
            problems.append(
                "classifier.attention: it weighs the hierarchical feature, which "
                "prototype_feature: semantic does not read"
            )
    for key in ("attention_levels", "pair_levels"):
        levels = classifier.get(key)
        if isinstance(levels, list) and levels != sorted(set(levels)):
            problems.append(f"classifier.{key}: {levels} is not ascending; list each layer once")
    batch = classifier.get("batch_size")
    if prototypes == "pairs" and isinstance(batch, int) and batch % 2:
        problems.append(f"classifier.batch_size: {batch} images hold no pairs; make it even")
    return problems


def refinement_problems(classifier: dict[str, Any]) -> list[str]:
    """Steps of refinement that have no maps to start from, or teach nothing at the end."""
    steps, problems = classifier.get("refinement"), []
    if steps and classifier.get("prototypes") != "image":
        problems.append(
            "classifier.refinement: the steps refine the IS-CAM, which only "
            "classifier.prototypes: image has; use it, or no steps"
        )
    if steps and steps[-1] != "prototypes":
        problems.append(
            f"classifier.refinement: the last step is {steps[-1]}, which carries no gradient, so "
            "the consistency loss would not reach the features; end with prototypes"
        )
    return problems


def affinity_problems(affinity: dict[str, Any], refined_labels: dict[str, Any]) -> list[str]:
    """A crop without a pair of pixels, and an expansion too short for its walk."""
    problems = []
    crop, radius = affinity.get("crop"), affinity.get("radius")
    if isinstance(crop, int) and isinstance(radius, int):
        cells, needed = math.ceil(crop / 4), 2 * radius - 1
        if cells < needed:
            problems.append(
                f"affinity.crop: {crop} pixels are {cells} cells, which hold no pair of "
                f"affinity.radius {radius}; set the crop to {4 * needed} or more"
            )
    log2_steps, degree = refined_labels.get("log2_steps"), refined_labels.get("degree")
    if isinstance(log2_steps, int) and isinstance(degree, int):
        steps = 2**log2_steps
        if degree < min(steps, 4 * math.sqrt(steps)):
            problems.append(
                f"refined_labels.degree: {degree} leaves out too much of the {steps} steps of "
                f"log2_steps: {log2_steps}; set it to {min(steps, math.ceil(6 * math.sqrt(steps)))}"
            )
    return problems


def head_problems(segmenter: dict[str, Any]) -> list[str]:
    """Settings that the segmenter's head cannot work with, and two initial weights at once."""
    head, rates, problems = segmenter.get("head"), segmenter.get("rates"), []
    if head == "large_fov" and isinstance(rates, list) and len(rates) != 1:
        problems.append(
            f"segmenter.rates: {rates} with head: large_fov, which has one dilated convolution; "
            "use [12]"
        )
    if head == "deeplab_v3" and isinstance(rates, list) and len(rates) != 3:
        problems.append(
            f"segmenter.rates: {rates} with head: deeplab_v3, which has three dilated "
            "convolutions; use [12, 24, 36], or half of it at output stride 16"
        )
    scales = segmenter.get("train_scales")
    if isinstance(scales, list) and len({1, *scales}) <= len(scales):
        problems.append(
            f"segmenter.train_scales: {scales} beside the scale 1, which is always there; list "
            "each further scale once"
        )
    batch, parts = segmenter.get("batch_size"), segmenter.get("accumulate")
    if isinstance(batch, int) and isinstance(parts, int) and 1 <= batch < 2 * parts:
        if batch < parts:
            problems.append(f"segmenter.accumulate: {parts} parts of batch_size {batch}; lower it")
        elif head == "deeplab_v3":
            problems.append(
                f"segmenter.batch_size: {batch} in {parts} parts (accumulate) with head: "
                "deeplab_v3, whose BatchNorm after the image pooling needs 2 images or more"
            )
    if segmenter.get("init") and segmenter.get("weights") == "classifier":
        problems.append(
            "segmenter.init: it takes the place of weights, which are those of the classifier; "
            "choose one"
        )
    return problems
