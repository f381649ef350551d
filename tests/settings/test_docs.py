"""docs/settings.md is what the settings classes say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from protoseg.settings.configuration import PANELS_SCHEMA, TABLE_SCHEMA, TOP_SCHEMA
from protoseg.settings.documentation import settings_page
from protoseg.settings.experiments import EXPERIMENT_SCHEMA
from protoseg.settings.fields import stage_schema
from protoseg.settings.schema import STAGES, DatasetSettings

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = "python workflow_scripts/write_settings_docs.py --output docs/settings.md"


def test_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), f"docs/settings.md is old; run {COMMAND}"


def test_command_writes_the_page(tmp_path: Path) -> None:
    script = REPOSITORY / "workflow_scripts" / "write_settings_docs.py"
    output = tmp_path / "settings.md"
    subprocess.run([sys.executable, str(script), "--output", str(output)], check=True)
    assert output.read_text(encoding="utf-8") == settings_page()


def test_every_key_beside_the_stages_is_named() -> None:
    header = settings_page().split("\n## ")[0]
    schemas: list[dict[str, Any]] = [TOP_SCHEMA, TABLE_SCHEMA, PANELS_SCHEMA, EXPERIMENT_SCHEMA]
    keys = {key for schema in schemas for key in schema["properties"]} - set(STAGES)
    assert not [key for key in keys if f"`{key}`" not in header]


def test_every_setting_has_one_line_of_four_cells() -> None:
    sections = re.split(r"^## ", settings_page(), flags=re.MULTILINE)[1:]
    groups = {"dataset": DatasetSettings, **STAGES}
    assert [section.split("\n")[0] for section in sections] == list(groups)
    for section, settings in zip(sections, groups.values(), strict=True):
        lines = [line for line in section.splitlines() if line.startswith("| `")]
        names = [line.split("`")[1] for line in lines]
        assert names == list(stage_schema(settings)["properties"])
        assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in lines)


def test_defaults_and_limits_are_shown() -> None:
    page = settings_page()
    assert "| `epochs` | `5` | integer ≥ 1 |" in page
    assert "| `scale` | `[0.5, 1.5]` | list of 2 numbers |" in page
    assert "| `learning_rate` | `0.1` | number > 0 |" in page
    assert "| `precision` | `bfloat16` | `float32`, `bfloat16` |" in page
