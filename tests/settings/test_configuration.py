"""The whole configuration: tables, panels, seeds, and problems of all parts in one message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protoseg.errors import InputError
from protoseg.settings.configuration import Configuration, read_configuration, typed
from protoseg.settings.validation import SettingsError

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow_scripts"
TABLE = {"rows": ["cam"], "columns": ["maps.miou"]}


def config(**changes: Any) -> dict[str, Any]:
    return {"experiments": {"cam": {}, "sipe": {"base": "cam"}}, "tables": {"t": TABLE}} | changes


def problems_of(**changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_configuration(config(**changes))
    return caught.value.problems


def test_defaults() -> None:
    found = read_configuration(config())
    assert isinstance(found, Configuration)
    assert (found.title, found.shards, found.panels) == ("demo", 4, {})
    assert found.background_factors == (0.3, 0.5, 0.7, 0.85, 1.0)
    assert found.panel_images == "(train)[1]"
    assert found.tables["t"] == TABLE | {"reported": {}}


def test_rows_may_be_patterns_or_reported() -> None:
    sweep = {"base": "cam", "sweep": {"maps.background_factor": [0.5, 1.0]}}
    reported = {"paper": {"maps.miou": 50.1}}
    table = TABLE | {"rows": ["s", "s*", "paper"], "reported": reported, "share_of": "s"}
    found = read_configuration(config(experiments={"cam": {}, "s": sweep}, tables={"t": table}))
    names = ["s", "s__background_factor=0.5", "s__background_factor=1.0"]
    assert found.tables["t"]["rows"] == [*names, "paper"]


def table_of(**spec: Any) -> dict[str, Any]:
    return read_configuration(config(tables={"t": spec})).tables["t"]


def test_reported_figures_may_be_lists_in_the_order_of_the_columns() -> None:
    columns = ["maps.miou", "predictions.miou", "test.miou"]
    reported = {"sipe": [58.6, 68.8, 69.7], "paper": [None, 66, None], "cam": {"maps.miou": 50.1}}
    found = table_of(columns=columns, reported=reported)
    assert found["reported"] == {
        "sipe": {"maps.miou": 58.6, "predictions.miou": 68.8, "test.miou": 69.7},
        "paper": {"predictions.miou": 66},
        "cam": {"maps.miou": 50.1},
    }
    assert found["rows"] == ["sipe", "paper", "cam"]
    one_column = table_of(columns=["maps.miou"], reported={"cam": 50.1}, rows=["sipe", "cam"])
    assert one_column["reported"] == {"cam": {"maps.miou": 50.1}}
    assert one_column["rows"] == ["sipe", "cam"]


def test_reported_figures_of_every_class() -> None:
    figures = {"test.iou.cat": 80.0, "test.miou": 66.4}
    found = table_of(columns=["test.iou.*", "test.miou"], reported={"paper": figures})
    assert found["reported"] == {"paper": figures}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"columns": ["maps.miou"], "reported": {"cam": [50.1, 54.3]}},
            "reported.cam: 2 figures for 1 columns",
        ),
        (
            {"columns": ["maps.miou", "pseudo_labels.miou"], "reported": {"cam": 50.1}},
            "reported.cam: 1 figures for 2 columns",
        ),
        (
            {"columns": ["maps.miou"], "reported": {"cam": {"maps.mio": 50.1}}},
            "reported.cam: 'maps.mio' is not one of its columns; did you mean maps.miou?",
        ),
        (
            {"columns": ["maps.iou.*"], "reported": {"cam": [50.1]}},
            "reported.cam: give each figure its column, * stands for several",
        ),
        (
            {"columns": ["maps.iou.*"], "reported": {"cam": {"maps.iou.*": 50.1}}},
            "reported.cam: 'maps.iou.*' is not one of its columns",
        ),
        (
            {"columns": ["maps.miou", "test.miou"], "rows": ["cam"]},
            "columns: test.miou is neither measured nor reported for any of its rows",
        ),
        (
            {"columns": ["maps.miou", "test.miou"], "reported": {"paper": [None, 66.4]}},
            "columns: maps.miou is neither measured nor reported for any of its rows",
        ),
        (
            {"columns": ["maps.miou"]},
            "columns: maps.miou is neither measured nor reported for any of its rows",
        ),
    ],
)
def test_figures_without_a_column_and_columns_without_a_figure(
    spec: dict[str, Any], expected: str
) -> None:
    assert problems_of(tables={"t": spec}) == [f"tables.t.{expected}"]


def test_unknown_names_in_tables_and_panels() -> None:
    table: dict[str, Any] = TABLE | {"rows": ["cam", "sip"], "share_of": "full"}
    problems = problems_of(
        tables={"t": table}, panels={"maps": ["cma"], "labels": "other", "images": 2}
    )
    assert problems == [
        "tables.t.rows: 'sip' is no experiment, nor reported; did you mean sipe?",
        "tables.t.share_of: 'full' is not one of its rows",
        "panels: 'cma' is no experiment; did you mean cam?",
        "panels: 'other' is no experiment",
    ]
    table = {**TABLE, "share_of": {"cam": "sipe"}}
    assert problems_of(tables={"t": table}) == ["tables.t.share_of: 'sipe' is not one of its rows"]
    table = {"columns": ["maps.miou"], "rows": ["cam"], "reported": {"cma": 50.1}}
    assert problems_of(tables={"t": table}) == [
        "tables.t.reported: 'cma' is not one of its rows; did you mean cam?"
    ]
    table = {**TABLE, "rows": ["cam", "seam"], "reported": {"seam": 55.4}, "share_of": "seam"}
    assert problems_of(tables={"t": table}) == [
        "tables.t.share_of: 'seam' is no experiment, so nothing of it is measured"
    ]
    (problem,) = problems_of(tables={"t": {"columns": ["predictions.best_threshold_miou"]}})
    assert "of maps also best_threshold_miou" in problem


def test_problems_of_every_part_are_in_one_message() -> None:
    with pytest.raises(InputError) as caught:
        read_configuration(
            {
                "experimets": {},
                "seeds": [],
                "shards": 0,
                "experiments": {"cam": {"maps": {"scale": [1]}}},
                "tables": {"t": {"rows": ["camm"], "columns": ["maps.mio"], "colums": []}},
                "panels": {"image": 3, "maps": ["x"]},
            }
        )
    message = str(caught.value)
    for expected in (
        "configuration.experimets: unknown setting; did you mean experiments?",
        "configuration.seeds:",
        "configuration.shards: 0 is less than",
        "experiments.cam.maps.scale: unknown setting; did you mean scales?",
        "configuration.tables.t.columns.0: 'maps.mio' is not",
        "configuration.tables.t.colums: unknown setting; did you mean columns?",
        "tables.t.rows: 'camm' is no experiment",
        "configuration.panels.image: unknown setting; did you mean images?",
        "panels: 'x' is no experiment",
    ):
        assert message.count(expected) == 1, (expected, message)
    assert message.startswith("9 problem(s)")


@pytest.mark.parametrize("seeds", [[], 3, [-1], ["0"], [0, 0], None])
def test_seeds_are_a_list_of_integers_from_zero(seeds: Any) -> None:
    assert any(problem.startswith("configuration.seeds") for problem in problems_of(seeds=seeds))


def test_several_seeds() -> None:
    assert read_configuration(config(seeds=[0, 1, 2])).experiments.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    "part",
    [{"tables": 3}, {"tables": {"t": 3}}, {"panels": 3}, {"experiments": [1]}, {"defaults": 1}],
)
def test_malformed_parts_are_problems(part: dict[str, Any]) -> None:
    assert problems_of(**part)


def test_settings_import_neither_torch_nor_numpy() -> None:
    modules = ["configuration", "experiments", "provenance", "stage_file", "schema"]
    imports = "; ".join(f"import protoseg.settings.{module}" for module in modules)
    check = "print([m for m in ('torch', 'numpy', 'pandas', 'h5py') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; {check}"],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_numbers_inside_of_texts_of_the_command_line_are_numbers() -> None:
    given = {"seeds": ["0", "3"], "maps": {"scales": ["1.0", "5e-1"], "normalize_scales": "true"}}
    expected = {"seeds": [0, 3], "maps": {"scales": [1.0, 0.5], "normalize_scales": True}}
    assert typed(given) == expected
    texts = {"classes": ["cat", "2007_000032"], "title": "[1]", "empty": "", "seed": 7}
    assert typed(texts) == texts


@pytest.mark.parametrize("name", ["a b", "", "../x", "..", "a/b", "weights", "tables"])
def test_a_data_set_needs_a_folder_of_its_own(name: str) -> None:
    (problem,) = problems_of(dataset={"name": name})
    assert problem.startswith(f"dataset.name: {name!r}; a name has letters")


def test_coco_has_no_test_list() -> None:
    (problem,) = problems_of(dataset={"kind": "coco", "test_list": "test"})
    assert problem.startswith("dataset.test_list: kind: coco has none")


def test_columns_of_classes_that_do_not_exist_are_problems() -> None:
    table = {"columns": ["maps.iou.cta", "maps.iou.background", "maps.iou.*"]}
    classes = {"classes": ["cat", "dog"]}
    (problem,) = problems_of(tables={"t": {**table, "rows": ["cam"]}}, dataset=classes)
    assert problem == "tables.t.columns: 'maps.iou.cta': 'cta' is no class; did you mean cat?"
    read_configuration(config(tables={"t": {**table, "rows": ["cam"]}}))
