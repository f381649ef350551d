"""Presets: the recipes of published segmenters, from training to denseCRF, by name.

In: `presets/*.yaml`, each a description and settings by stage, with the source of its figures. Out:
`PRESETS`. A preset names every setting of a recipe, so that one replaces another completely;
labels, weights and precision stay with the experiment. Imports neither torch nor numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FILES = sorted(Path(__file__).with_name("presets").glob("*.yaml"))
PRESETS: dict[str, dict[str, Any]] = {
    file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES
}


def overlay(settings: dict[str, dict[str, Any]], changes: dict[str, Any]) -> dict[str, Any]:
    """``settings`` by stage with ``changes`` over them: those of `preset` first, then its own."""
    preset = PRESETS.get(changes.get("preset", ""), {})
    return {
        stage: values | preset.get(stage, {}) | changes.get(stage, {})
        for stage, values in settings.items()
    }
