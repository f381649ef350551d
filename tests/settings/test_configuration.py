"""The whole configuration: tables, panels, seeds, and problems of all parts in one message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protoseg.errors import InputError
from protoseg.settings.configuration import Configuration, read_configuration
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
    assert found.background_factors == ()
    assert found.panel_images == "train[1]"
    assert found.tables["t"] == TABLE | {"reported": {}}


def test_rows_may_be_patterns_or_reported() -> None:
    sweep = {"base": "cam", "sweep": {"maps.background_factor": [0.5, 1.0]}}
    reported = {"paper": {"maps.miou": 50.1}}
    table = TABLE | {"rows": ["s*", "paper"], "reported": reported, "share_of": "paper"}
    found = read_configuration(config(experiments={"cam": {}, "s": sweep}, tables={"t": table}))
    names = ["s", "s__background_factor=0.5", "s__background_factor=1.0"]
    assert found.tables["t"]["rows"] == [*names, "paper"]


def test_unknown_names_in_tables_and_panels() -> None:
    table = TABLE | {"rows": ["cam", "sip"], "share_of": "full"}
    problems = problems_of(
        tables={"t": table}, panels={"maps": ["cma"], "labels": "other", "images": 2}
    )
    assert problems == [
        "tables.t.rows: 'sip' is no experiment, nor reported; did you mean sipe?",
        "tables.t.share_of: 'full' is not one of its rows",
        "panels: 'cma' is no experiment; did you mean cam?",
        "panels: 'other' is no experiment",
    ]


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


@pytest.mark.parametrize("seeds", [[], 3, [-1], ["0"], None])
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
