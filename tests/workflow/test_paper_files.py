"""The papers' files: valid, complete, one run per shared stage, and planned without any data.

`stage_runs` counts what a file runs; `unshared` is the same file with nothing shared.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import GOLDEN
from snakemake.utils import update_config

from protoseg.data.voc import VOC_CLASSES
from protoseg.report.tables import build_table
from protoseg.settings.configuration import SCORED_STAGES, Configuration, read_configuration
from protoseg.settings.experiments import all_upstream

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = [REPOSITORY / "experiments" / name for name in ("voc12", "coco14")]
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.yaml"))]
REPORTED = GOLDEN.parent / "reported.yaml"
TRAININGS = {stage: f"train_{stage}" for stage in ("classifier", "affinity", "segmenter")}

of_every_file = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}"
)
of_every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def read(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    return config


@functools.cache
def configuration_of(file: Path) -> Configuration:
    return read_configuration(read(file))


def stage_runs(configuration: Configuration) -> set[tuple[str, str]]:
    """(owner, stage) of everything that the tables make run."""
    experiments = configuration.experiments
    return {
        (experiments.owner(row, stage), stage)
        for spec in configuration.tables.values()
        for row, column in itertools.product(spec["rows"], spec["columns"])
        if row in experiments.names and (scored := column.partition(".")[0]) in SCORED_STAGES
        for stage in all_upstream(scored, experiments.settings[row])
    }


def unshared(config: dict[str, Any]) -> dict[str, Any]:
    """The same tables, every row of each a complete experiment of its own."""
    configuration = read_configuration(config)
    settings = configuration.experiments.settings
    experiments: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for table, spec in configuration.tables.items():
        names = {row: f"{table}.{row}".replace("=", "-") for row in spec["rows"] if row in settings}
        experiments |= {name: settings[row] for row, name in names.items()}
        rows = [names.get(row, row) for row in spec["rows"]]
        figures = {names.get(row, row): found for row, found in spec["reported"].items()}
        tables[table] = spec | {"rows": rows, "reported": figures}
    plain = {key: value for key, value in config.items() if key != "panels"}
    return plain | {"experiments": experiments, "tables": tables}


def reported_groups() -> list[Any]:
    """One parameter per table of reported figures: paper, its number, the figures."""
    if not REPORTED.is_file():
        skip = pytest.mark.skip(
            reason=f"no {REPORTED}; set PROTOSEG_GOLDEN to the folder beside it"
        )
        return [pytest.param("", "", {}, id="absent", marks=skip)]
    papers = yaml.safe_load(REPORTED.read_text())
    return [
        pytest.param(paper, group.partition("_")[0], figures, id=f"{paper}-{group}")
        for paper, groups in papers.items()
        for group, figures in groups.items()
    ]


def printed_lines(figures: Any) -> Iterator[list[float]]:
    """Lists at the ends of nested mappings; a single figure is a list of one, text is none."""
    if isinstance(figures, dict):
        for value in figures.values():
            yield from printed_lines(value)
    elif isinstance(figures, list):
        yield figures
    elif not isinstance(figures, str):
        yield [figures]


def holds(spec: dict[str, Any], wanted: list[float]) -> bool:
    """Whether a table reports these figures next to each other, along its rows or its columns."""
    cells = [[spec["reported"].get(r, {}).get(c) for c in spec["columns"]] for r in spec["rows"]]
    for lines in (cells, zip(*cells, strict=True)):
        found = [cell for line in lines for cell in line if cell is not None]
        starts = range(len(found) - len(wanted) + 1)
        if any(found[start : start + len(wanted)] == wanted for start in starts):
            return True
    return False


def test_there_is_a_file_per_paper() -> None:
    found = {folder.name: {file.stem for file in folder.glob("*.yaml")} for folder in FOLDERS}
    assert found["voc12"] == {"sipe", "rpnet", "rpc", "ae_sipe", "union"}
    assert found["coco14"] == {"sipe", "rpnet", "rpc"}


@of_every_file
def test_file_is_valid_and_every_experiment_is_used(file: Path) -> None:
    configuration = configuration_of(file)
    experiments = configuration.experiments
    assert all(table.startswith(f"{file.stem}_") for table in configuration.tables)
    rows = {row for spec in configuration.tables.values() for row in spec["rows"]}
    assert set(experiments.names) <= rows | set(experiments.bases.values())
    assert all(values["classifier"]["momentum"] == 1e-4 for values in experiments.settings.values())


@of_every_file
def test_every_row_and_column_of_a_table_resolves(file: Path, tmp_path: Path) -> None:
    configuration = configuration_of(file)
    metrics = {stage: write_metrics(tmp_path, stage) for stage in SCORED_STAGES}
    for table, spec in configuration.tables.items():
        stages = {column.partition(".")[0] for column in spec["columns"]} & set(SCORED_STAGES)
        own = {stage: [metrics[stage]] for stage in stages}
        measured = set(spec["rows"]) & set(configuration.experiments.names)
        rows = [{"name": row, "metrics": own if row in measured else {}} for row in spec["rows"]]
        made = build_table(spec | {"name": table, "rows": rows})
        assert made.numbers["row"].tolist() == spec["rows"]
        numbers = made.numbers.set_index("row")
        for row, figures in spec["reported"].items():
            assert {column: numbers.loc[row, f"{column}.reported"] for column in figures} == figures


def write_metrics(folder: Path, stage: str) -> str:
    """metrics.json of a stage on VOC."""
    names = ["background", *VOC_CLASSES]
    values = {
        "stage": stage,
        "list": "train",
        "images": 1,
        "class_names": names,
        "classes_counted": len(names),
        "miou": 50.0,
        "iou": [50.0] * len(names),
        "reading": "label",
        "best_threshold": 0.3,
        "best_threshold_miou": 50.0,
    }
    path = folder / f"{stage}.json"
    path.write_text(json.dumps(values))
    return str(path)


@pytest.mark.parametrize(("paper", "number", "figures"), reported_groups())
def test_reported_figures_are_in_the_tables(paper: str, number: str, figures: Any) -> None:
    tables = [
        spec
        for file in FILES
        for table, spec in configuration_of(file).tables.items()
        if re.fullmatch(rf"{paper}_{number}(_\w+)?", table)
    ]
    assert tables
    lines = list(printed_lines(figures))
    assert [line for line in lines if not any(holds(spec, line) for spec in tables)] == []


@of_every_folder
def test_files_of_a_folder_agree_and_can_be_given_together(folder: Path) -> None:
    files = sorted(folder.glob("*.yaml"))
    together: dict[str, Any] = {}
    for file in files:
        update_config(together, copy.deepcopy(read(file)))
    for one, other in itertools.combinations(map(read, files), 2):
        for key in ("dataset", "defaults", "seeds", "shards"):
            assert one[key] == other[key]
        for name in set(one["experiments"]) & set(other["experiments"]):
            assert one["experiments"][name] == other["experiments"][name], name
        assert not set(one["tables"]) & set(other["tables"])
    apart = [stage_runs(configuration_of(file)) for file in files]
    runs = stage_runs(read_configuration(together))
    assert runs == set().union(*apart)
    assert len(runs) < sum(map(len, apart))


@of_every_file
def test_stages_are_shared(file: Path, record_property: Any) -> None:
    shared = len(stage_runs(configuration_of(file)))
    alone = len(stage_runs(read_configuration(unshared(read(file)))))
    record_property("stage runs", f"{shared} instead of {alone}")
    # RPNet's file for COCO has one measured table, of methods that train classifiers of their own.
    assert (shared == alone) == (f"{file.parent.name}/{file.stem}" == "coco14/rpnet")


@of_every_file
def test_dry_run_plans_every_training_once_without_data(file: Path, tmp_path: Path) -> None:
    configuration = configuration_of(file)
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(tmp_path)]
    common = ["--configfile", str(file), "--workflow-profile", "none", "--quiet", "rules"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", *where, *common],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    stats = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", output, re.MULTILINE | re.DOTALL)
    assert stats is not None
    counts = {rule: int(n) for rule, n in (line.split() for line in stats[1].splitlines())}
    runs = [stage for _, stage in stage_runs(configuration)]
    planned = {rule: runs.count(stage) for stage, rule in TRAININGS.items()}
    assert {rule: counts.get(rule, 0) for rule in TRAININGS.values()} == planned
    assert counts["make_table"] == len(configuration.tables)
