"""Experiments as differences: merge, validate, and say which experiment owns a stage.

In: the configuration (a mapping with `dataset`, `defaults`, `experiments`, `tables`, `seeds`,
`shards`). Out: `Experiments`. Imports neither torch nor numpy: the Snakefile imports it.
"""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import dataclass
from typing import Any

from protoseg.settings.fields import stage_schema
from protoseg.settings.presets import PRESETS, overlay
from protoseg.settings.schema import STAGES, DatasetSettings
from protoseg.settings.validation import (
    impossible_combinations,
    nearest,
    well_formed,
)

# What each stage reads, besides the index. Labels of the segmenter are a setting, see `upstream`.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "classifier": (),
    "maps": ("classifier",),
    "pseudo_labels": ("maps",),
    "affinity": ("pseudo_labels",),
    "refined_labels": ("maps", "affinity"),
    "segmenter": ("refined_labels",),
    "predictions": ("segmenter",),
    "predictions_crf": ("predictions",),
}
SCHEMAS = {stage: stage_schema(settings) for stage, settings in STAGES.items()}
DATASET_SCHEMA = stage_schema(DatasetSettings)
SWEPT = [f"{stage}.{key}" for stage, schema in SCHEMAS.items() for key in schema["properties"]]
PRESET_SCHEMA = {"type": "string", "enum": list(PRESETS)}
DEFAULTS_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"preset": PRESET_SCHEMA, **SCHEMAS},
}
SWEEP_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {key: {"type": "array", "minItems": 1} for key in SWEPT},
}
EXPERIMENT_SCHEMA = DEFAULTS_SCHEMA | {
    "properties": {
        "base": {"type": "string"},
        "preset": PRESET_SCHEMA,
        "sweep": SWEEP_SCHEMA,
        "title": {"type": "string"},
        **SCHEMAS,
    }
}
NAME = re.compile(r"[A-Za-z0-9_.+-]+")  # names are folders under results/
RESERVED = ("figures", "report.html", "specs", "tables", "weights")  # other things there


def upstream(stage: str, settings: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Stages whose results ``stage`` reads directly, under these merged settings."""
    direct = UPSTREAM[stage]
    if stage == "segmenter":
        labels = settings["segmenter"]["labels"]
        direct = () if labels == "ground_truth" else (labels,)
    if stage in ("affinity", "segmenter") and settings[stage]["weights"] == "classifier":
        direct = (*direct, "classifier")
    return direct


def all_upstream(stage: str, settings: dict[str, dict[str, Any]]) -> set[str]:
    """``stage`` and everything that it depends on."""
    found = {stage}
    for name in upstream(stage, settings):
        found |= all_upstream(name, settings)
    return found


def defaults_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Default values of a stage's schema."""
    return {key: copy.copy(value["default"]) for key, value in schema["properties"].items()}


def well_formed_experiments(
    experiments: Any,
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Experiments without what is wrong in them, sweeps expanded, and the problems by name."""
    expanded: dict[str, dict[str, Any]] = {}
    problems: dict[str, list[str]] = {}
    for name, values in experiments.items() if isinstance(experiments, dict) else []:
        where = f"experiments.{name}"
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if value is not None}
        experiment, found = well_formed(values, EXPERIMENT_SCHEMA, where)
        if not NAME.fullmatch(str(name)):
            found.append(f"{where}: a name has letters, digits and any of _ . + - only")
        variants = expand_sweep(str(name), experiment.pop("sweep", {}))
        expanded[str(name)], problems[str(name)] = experiment, found
        for variant, changes in variants.items():
            expanded[variant], problems[variant] = well_formed(
                changes, EXPERIMENT_SCHEMA, f"experiments.{variant}"
            )
    return expanded, problems


def expand_sweep(name: str, sweep: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """One experiment per combination of swept values, named `name__key=value`, based on ``name``.

    ``name`` itself stays as the experiment without the swept keys, so that it can be a base.
    """
    variants = {}
    for values in itertools.product(*sweep.values()) if sweep else []:
        variant: dict[str, Any] = {"base": name}
        labels = [name]
        for path, value in zip(sweep, values, strict=True):
            stage, _, key = path.partition(".")
            variant.setdefault(stage, {})[key] = value
            label = re.sub(r"[^A-Za-z0-9_.+-]+", "-", str(value)).strip("-")
            labels.append(f"{key}={label}")
        variants["__".join(labels)] = variant
    return variants


@dataclass(frozen=True)
class Experiments:
    """All experiments of a configuration, merged and validated.

    Attributes:
        dataset: the data set's settings.
        settings: experiment -> stage -> setting -> value, complete.
        bases: experiment -> its base, None for the root ones.
        presets: experiment -> the preset that it names itself, if any.
        seeds: seeds that every experiment runs with.
    """

    dataset: dict[str, Any]
    settings: dict[str, dict[str, dict[str, Any]]]
    bases: dict[str, str | None]
    presets: dict[str, str]
    titles: dict[str, str]
    seeds: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        return list(self.settings)

    def owner(self, experiment: str, stage: str) -> str:
        """The experiment under whose name ``stage`` runs for ``experiment``.

        Walks up `base` while the settings of this stage and of all stages upstream are unchanged.
        """
        own = self.settings[experiment]
        needed = all_upstream(stage, own)
        while (base := self.bases[experiment]) is not None:
            parent = self.settings[base]
            if any(parent[name] != own[name] for name in needed):
                break
            experiment = base
        return experiment

    def upstream(self, experiment: str, stage: str) -> tuple[str, ...]:
        """Stages that ``stage`` of ``experiment`` reads."""
        return upstream(stage, self.settings[experiment])


def read_experiments(config: dict[str, Any]) -> tuple[Experiments, list[str]]:
    """The experiments without what is wrong in them, and every problem.

    Each part is checked where it stands: an experiment's own settings, not those of its base.
    """
    dataset, problems = well_formed(config.get("dataset"), DATASET_SCHEMA, "dataset")
    problems += dataset_problems(dataset)
    common, found = well_formed(config.get("defaults"), DEFAULTS_SCHEMA, "defaults")
    problems += found
    if not config.get("experiments"):
        problems.append("experiments: none; name at least one")
    raw, problems_of = well_formed_experiments(config.get("experiments"))
    order, circles = base_order(raw)
    for name, problem in circles.items():
        problems_of[name].append(problem)
    merged = {"": overlay({stage: defaults_of(SCHEMAS[stage]) for stage in STAGES}, common)}
    impossible = {"": [] if found else impossible_combinations(merged[""])}
    problems += [f"defaults.{problem}" for problem in impossible[""]]
    for name in order:
        base = "" if name in circles else raw[name].get("base", "")
        merged[name] = overlay(merged[base], raw[name])
        broken = found or problems_of[name]
        impossible[name] = [] if broken else impossible_combinations(merged[name])
        problems += problems_of[name]
        new = [problem for problem in impossible[name] if problem not in impossible[base]]
        problems += [f"experiments.{name}.{problem}" for problem in new]
    experiments = Experiments(
        dataset=defaults_of(DATASET_SCHEMA) | dataset,
        settings={name: merged[name] for name in raw},
        bases={name: raw[name].get("base") for name in raw},
        presets={name: raw[name]["preset"] for name in raw if "preset" in raw[name]},
        titles={name: raw[name].get("title", name) for name in raw},
        seeds=tuple(seeds) if isinstance(seeds := config.get("seeds", [0]), list) else (),
    )
    return experiments, problems


def dataset_problems(dataset: dict[str, Any]) -> list[str]:
    """A name that cannot be a folder of its own under results/; a list that the kind has not."""
    problems = []
    name = dataset.get("name", "demo")
    if not NAME.fullmatch(name) or name.strip(".") == "" or name in RESERVED:
        problems.append(
            f"dataset.name: {name!r}; a name has letters, digits and any of _ . + - only, and is "
            f"none of {', '.join(RESERVED)}"
        )
    if dataset.get("kind") == "coco" and dataset.get("test_list"):
        problems.append("dataset.test_list: kind: coco has none; use kind: folder for its images")
    return problems


def base_order(raw: dict[str, dict[str, Any]]) -> tuple[list[str], dict[str, str]]:
    """Every experiment, bases before those built on them, and problems of the chain by name."""
    order: list[str] = []
    problems: dict[str, str] = {}
    waiting = dict(raw)
    while waiting:
        ready = [n for n, e in waiting.items() if "base" not in e or e["base"] in order]
        if not ready:  # break the chain at its first broken link, and go on
            unknown = [n for n, e in waiting.items() if e["base"] not in raw]
            name = (unknown or list(waiting))[0]
            base = waiting[name]["base"]
            known = [other for other in raw if other != name]
            reason = (
                f"is not an experiment{nearest(base, known)}" if unknown else "leads in a circle"
            )
            problems[name] = f"experiments.{name}.base: {base!r} {reason}"
            ready = [name]
        for name in ready:
            order.append(name)
            del waiting[name]
    return order, problems
