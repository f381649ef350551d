"""Experiments as differences: merge, validate, and say which experiment owns a stage.

In: the configuration (a mapping with `dataset`, `defaults`, `experiments`, `tables`, `seeds`,
`shards`). Out: `Experiments`. Imports neither torch nor numpy: the Snakefile imports it.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from dataclasses import dataclass
from typing import Any

import jsonschema

from protoseg.errors import InputError
from protoseg.settings.fields import stage_schema
from protoseg.settings.schema import STAGES, DatasetSettings

# What each stage reads, besides the index. Labels of the segmenter are a setting, see `upstream`.
UPSTREAM: dict[str, tuple[str, ...]] = {
    "classifier": (),
    "maps": ("classifier",),
    "pseudo_labels": ("maps",),
    "affinity": ("pseudo_labels",),
    "refined_labels": ("maps", "affinity"),
    "segmenter": ("refined_labels",),
    "predictions": ("segmenter",),
}
EXPERIMENT_KEYS = ("base", "sweep", "title", *STAGES)


class SettingsError(InputError):
    """Every problem of a configuration at once, one per line."""

    def __init__(self, problems: list[str]) -> None:
        lines = "\n  ".join(problems)
        super().__init__(f"{len(problems)} problem(s) in the configuration:\n  {lines}")
        self.problems = problems


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


def schema_problems(values: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    """Validation errors of ``values``, each with its path and, for a typo, the nearest key."""
    problems = []
    for error in jsonschema.Draft202012Validator(schema).iter_errors(values):
        path = ".".join([where, *map(str, error.absolute_path)])
        if error.validator == "additionalProperties":
            for key in sorted(set(error.instance) - set(error.schema["properties"])):
                problems.append(f"{path}.{key}: unknown setting{nearest(key, error.schema)}")
        elif error.validator == "pattern":
            problems.append(f"{path}: {error.instance!r} is not {error.schema['description']}")
        else:
            problems.append(f"{path}: {error.message}")
    return problems


def nearest(key: str, schema: dict[str, Any]) -> str:
    """`; did you mean ...?` for the closest known key, or nothing."""
    close = difflib.get_close_matches(key, list(schema["properties"]), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def defaults_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Default values of a stage's schema."""
    return {key: copy.copy(value["default"]) for key, value in schema["properties"].items()}


def expand_sweeps(experiments: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """One experiment per combination of swept values, named `name__key=value`.

    The name itself stays as the experiment without the swept keys, so that it can be a base.
    """
    expanded: dict[str, dict[str, Any]] = {}
    for name, experiment in experiments.items():
        experiment = dict(experiment or {})
        sweep = experiment.pop("sweep", {})
        expanded[name] = experiment
        for values in itertools.product(*sweep.values()) if sweep else []:
            variant: dict[str, Any] = {"base": name}
            labels = []
            for path, value in zip(sweep, values, strict=True):
                stage, _, key = path.partition(".")
                variant.setdefault(stage, {})[key] = value
                labels.append(f"{key}={value}")
            expanded["__".join([name, *labels])] = variant
    return expanded


@dataclass(frozen=True)
class Experiments:
    """All experiments of a configuration, merged and validated.

    Attributes:
        dataset: the data set's settings.
        settings: experiment -> stage -> setting -> value, complete.
        bases: experiment -> its base, None for the root ones.
        seeds: seeds that every experiment runs with.
    """

    dataset: dict[str, Any]
    settings: dict[str, dict[str, dict[str, Any]]]
    bases: dict[str, str | None]
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


def read_experiments(config: dict[str, Any]) -> Experiments:
    """Merge and validate; raises SettingsError with every problem."""
    schemas = {stage: stage_schema(settings) for stage, settings in STAGES.items()}
    problems = schema_problems(
        config.get("dataset") or {}, stage_schema(DatasetSettings), "dataset"
    )
    dataset = defaults_of(stage_schema(DatasetSettings)) | dict(config.get("dataset") or {})
    seeds = config.get("seeds", [0])
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        problems.append(f"seeds: {seeds!r} is not a list of integers from 0")
    common = config.get("defaults") or {}
    problems += unknown_keys(common, STAGES, "defaults")
    root = {stage: defaults_of(schema) for stage, schema in schemas.items()}
    for stage in STAGES:
        root[stage] |= common.get(stage) or {}
    if not config.get("experiments"):
        problems.append("experiments: none; name at least one")
    raw = expand_sweeps(config.get("experiments") or {})
    order, problems_of_order = base_order(raw)
    problems += problems_of_order
    merged: dict[str, dict[str, dict[str, Any]]] = {}
    for name in order:
        experiment = raw[name]
        problems += unknown_keys(experiment, EXPERIMENT_KEYS, f"experiments.{name}")
        base = merged.get(experiment.get("base", ""), root)
        merged[name] = {stage: base[stage] | (experiment.get(stage) or {}) for stage in STAGES}
        for stage, schema in schemas.items():
            found = schema_problems(merged[name][stage], schema, f"experiments.{name}.{stage}")
            problems += [problem for problem in found if problem not in problems]
        problems += impossible_combinations(name, merged[name])
    if problems:
        raise SettingsError(problems)
    return Experiments(
        dataset=dataset,
        settings={name: merged[name] for name in raw},
        bases={name: raw[name].get("base") for name in raw},
        titles={name: str(raw[name].get("title", name)) for name in raw},
        seeds=tuple(seeds),
    )


def unknown_keys(values: dict[str, Any], known: Any, where: str) -> list[str]:
    """Problems for keys of ``values`` that are not in ``known``."""
    schema = {"properties": dict.fromkeys(known)}
    return [
        f"{where}.{key}: unknown key{nearest(key, schema)}" for key in values if key not in known
    ]


def base_order(raw: dict[str, dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Experiments with every base before those built on it, and problems of the chain."""
    order: list[str] = []
    problems = []
    waiting = dict(raw)
    while waiting:
        ready = [n for n, e in waiting.items() if e.get("base") is None or e["base"] in order]
        if not ready:
            for name, experiment in waiting.items():
                base = experiment["base"]
                reason = "is part of a circle" if base in raw else "is not an experiment"
                problems.append(f"experiments.{name}.base: {base!r} {reason}")
            return order, problems
        for name in ready:
            order.append(name)
            del waiting[name]
    return order, problems


def impossible_combinations(name: str, settings: dict[str, dict[str, Any]]) -> list[str]:
    """Settings that are valid alone but not together, each with the reason."""
    problems = []
    where = f"experiments.{name}"
    classifier, maps = settings["classifier"], settings["maps"]
    if maps.get("source") == "prototypes" and classifier.get("method") == "cam":
        problems.append(
            f"{where}.maps.source: prototypes need side branches, which method cam does not have; "
            "use method sipe with consistency: false"
        )
    for stage in ("affinity", "segmenter"):
        same = settings[stage].get("backbone") == classifier.get("backbone")
        if settings[stage].get("weights") == "classifier" and not same:
            problems.append(
                f"{where}.{stage}.weights: classifier needs {stage}.backbone to be the "
                f"classifier's, {classifier.get('backbone')}"
            )
    for stage, key in (("classifier", "long_side"), ("affinity", "scale"), ("segmenter", "scale")):
        low, high = (*settings[stage].get(key, ()), 0, 0)[:2]
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            problems.append(f"{where}.{stage}.{key}: {low} is above {high}")
    return problems
