"""The whole configuration: experiments, and what is made of their results.

In: the mapping that Snakemake read. Out: `Configuration`, validated, every problem at once. Imports
neither torch nor numpy.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protoseg.settings.experiments import Experiments, read_experiments
from protoseg.settings.validation import SettingsError, nearest, schema_problems, well_formed

SCORED_STAGES = ("maps", "pseudo_labels", "refined_labels", "predictions", "predictions_crf")
REPORTED_STAGES = ("test", "test_crf")  # scored by a server alone: their figures come from papers
TRAINED_STAGES = ("classifier", "affinity", "segmenter")
BACKGROUND_FACTORS = (0.3, 0.5, 0.7, 0.85, 1.0)
NAMES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
TABLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["columns"],
    "properties": {
        "title": {"type": "string"},
        "note": {"type": "string"},
        "rows": NAMES,
        "columns": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "string",
                "pattern": rf"^(({'|'.join((*SCORED_STAGES, *REPORTED_STAGES))})\.(miou|iou\..+)"
                r"|maps\.best_threshold(_miou)?)$",
                "description": "`stage.metric`: maps, pseudo_labels, refined_labels, predictions, "
                "predictions_crf, or test and test_crf (reported alone), then miou or "
                "iou.<class>; of maps also best_threshold_miou and best_threshold",
            },
        },
        "reported": {
            "type": "object",
            "additionalProperties": {
                "type": ["object", "array", "number"],
                "additionalProperties": {"type": "number"},
                "items": {"type": ["number", "null"]},
            },
        },
        "share_of": {"type": ["string", "object"], "additionalProperties": {"type": "string"}},
    },
}
PANELS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "images": {"type": "integer", "minimum": 1},
        "maps": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "string"},
    },
}
TOP_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "title": {"type": "string"},
        "seeds": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 1,
            "uniqueItems": True,
        },
        "shards": {"type": "integer", "minimum": 1},
        "background_factors": {
            "type": "array",
            "items": {"type": "number", "minimum": 0},
            "minItems": 1,
        },
        "dataset": {},
        "defaults": {},
        "experiments": {"type": "object"},
        "tables": {"type": "object", "additionalProperties": TABLE_SCHEMA},
        "panels": PANELS_SCHEMA,
    },
}


@dataclass(frozen=True)
class Configuration:
    """Experiments and outputs.

    Attributes:
        title: heading of the report.
        shards: in how many jobs per part images are scattered.
        tables: name -> {title, note, rows, columns, reported, share_of}; rows are experiments or
            names that only `reported` knows, `reported` is row -> column -> a paper's figure.
        panels: {images, maps, labels}: how many images, whose maps, whose labels.
        background_factors: for the sweep of prototype methods at inference.
    """

    title: str
    experiments: Experiments
    shards: int
    tables: dict[str, dict[str, Any]]
    panels: dict[str, Any]
    background_factors: tuple[float, ...]

    @property
    def panel_images(self) -> str:
        """List expression of the images on the panels."""
        return f"({self.experiments.dataset['maps_list']})[{self.panels.get('images', 1)}]"


def typed(value: Any) -> Any:
    """``value`` with numbers and truth values where texts inside of it spell them.

    Snakemake leaves every number inside a list or mapping of ``--config`` a text.
    """
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    try:
        spelled = json.loads(value)
    except (TypeError, ValueError):
        return value
    return spelled if isinstance(spelled, int | float) else value


def read_configuration(config: dict[str, Any]) -> Configuration:
    """Validate and merge; raises SettingsError with every problem."""
    problems = schema_problems(config, TOP_SCHEMA, "configuration")
    experiments, found = read_experiments(config)
    problems += found
    names = experiments.names
    tables = {}
    given = config.get("tables")
    classes = experiments.dataset["classes"]
    for table, spec in given.items() if isinstance(given, dict) else []:
        tables[table], found = complete_table(table, spec, names)
        problems += found or class_problems(table, tables[table].get("columns", []), classes)
    panels, _ = well_formed(config.get("panels"), PANELS_SCHEMA, "panels")
    for name in [*panels.get("maps", []), *([panels["labels"]] if "labels" in panels else [])]:
        if name not in names:
            problems.append(f"panels: {name!r} is no experiment{nearest(name, names)}")
    if problems:
        raise SettingsError(problems)
    return Configuration(
        title=config.get("title", experiments.dataset["name"]),
        experiments=experiments,
        shards=config.get("shards", 4),
        tables=tables,
        panels=panels,
        background_factors=tuple(config.get("background_factors", BACKGROUND_FACTORS)),
    )


def complete_table(table: str, spec: Any, names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Specification of a table with everything that it leaves open, and problems of the names.

    Rows are those of `reported` unless named, patterns of rows are filled in, and reported figures
    stand by column.
    """
    spec, _ = well_formed(spec, TABLE_SCHEMA | {"required": []}, table)
    rows, problems = [], []
    reported, columns = spec.get("reported", {}), spec.get("columns", [])
    for row in spec.get("rows", list(reported)):
        found = fnmatch.filter(names, row) or [row]
        rows += found
        if found == [row] and row not in names and row not in reported:
            near = nearest(row, [*names, *reported])
            problems.append(f"rows: {row!r} is no experiment, nor reported{near}")
    rows = list(dict.fromkeys(rows))
    for row in reported:
        if row not in rows:
            problems.append(f"reported: {row!r} is not one of its rows{nearest(row, rows)}")
    share = spec.get("share_of", {})
    pairs = share if isinstance(share, dict) else {share: share}
    for name in dict.fromkeys([*pairs, *pairs.values()]):
        if name not in rows:
            problems.append(f"share_of: {name!r} is not one of its rows")
        elif name in pairs.values() and name not in names:
            problems.append(f"share_of: {name!r} is no experiment, so nothing of it is measured")
    if columns:
        problems += figure_problems(reported, columns)
    reported = {row: by_column(figures, columns) for row, figures in reported.items()}
    if columns and not problems:
        problems = empty_columns(columns, reported, bool(set(rows) & set(names)))
    problems = [f"tables.{table}.{problem}" for problem in problems]
    return {**spec, "rows": rows, "reported": reported}, problems


def class_problems(table: str, columns: list[str], classes: Sequence[str]) -> list[str]:
    """Columns of a class that is none of ``classes``, where these are given."""
    known = ["background", *classes]
    named = [(column, column.split(".", 2)[-1]) for column in columns if ".iou." in column]
    return [
        f"tables.{table}.columns: {column!r}: {name!r} is no class{nearest(name, known)}"
        for column, name in named
        if classes and not fnmatch.filter(known, name)
    ]


def by_column(figures: Any, columns: list[str]) -> dict[str, float]:
    """Reported figures of one row by column.

    A list has them in the columns' order, as a paper prints them, null where there is none; a
    single number is that of the first column.
    """
    if isinstance(figures, dict):
        return figures
    listed = figures if isinstance(figures, list) else [figures]
    pairs = zip(columns, listed, strict=False)
    return {column: figure for column, figure in pairs if figure is not None}


def figure_problems(reported: dict[str, Any], columns: list[str]) -> list[str]:
    """Reported figures that belong to no column of their table."""
    single = [column for column in columns if "*" not in column]
    problems = []
    for row, figures in reported.items():
        if isinstance(figures, dict):
            problems += [
                f"reported.{row}: {column!r} is not one of its columns{nearest(column, single)}"
                for column in figures
                if "*" in column or not any(fnmatch.fnmatch(column, known) for known in columns)
            ]
        elif len(single) < len(columns):
            problems.append(f"reported.{row}: give each figure its column, * stands for several")
        elif (count := len(figures) if isinstance(figures, list) else 1) != len(columns):
            problems.append(f"reported.{row}: {count} figures for {len(columns)} columns")
    return problems


def empty_columns(
    columns: list[str], reported: dict[str, dict[str, float]], measured: bool
) -> list[str]:
    """Columns without a figure, as problems; ``measured``: whether a row is an experiment."""
    return [
        f"columns: {column} is neither measured nor reported for any of its rows"
        for column in columns
        if not (measured and column.partition(".")[0] in SCORED_STAGES)
        and not any(fnmatch.filter(figures, column) for figures in reported.values())
    ]
