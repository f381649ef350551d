"""The settings page of the documentation, made from the settings classes.

In: `schema.py`'s classes. Out: Markdown with one table per stage: setting, default, allowed values
and meaning. The page is never edited by hand. Imports no torch.
"""

from __future__ import annotations

import json
from typing import Any

from protoseg.settings.configuration import BACKGROUND_FACTORS
from protoseg.settings.fields import stage_schema
from protoseg.settings.presets import PRESETS
from protoseg.settings.schema import STAGES, DatasetSettings

HEADER = """# Settings

<!-- Made by `python workflow_scripts/write_settings_docs.py --output docs/settings.md`. -->

Every setting, by stage and in the order of the flow. `defaults` of the configuration changes them
for all experiments, an experiment for itself and for those based on it. `dataset` is one group for
the whole configuration. Unknown settings and values outside the limits are errors.

| key of the configuration | what |
| --- | --- |
| `title` | heading of the report |
| `seeds` | every experiment runs once with each; `[0]` |
| `shards` | jobs per part of a scattered rule; 4 |
| `dataset`, `defaults` | see above |
| `experiments` | by name: settings by stage, `base` (an experiment), `title`, `preset`, `sweep` |
| `tables` | by name: `title`, `note`, `rows`, `columns`, `reported`, `share_of` |
| `panels` | `images` (how many), `maps` (of which experiments), `labels` (of which one) |
| `background_factors` | what `snakemake background_factors` tries; {factors} |

`sweep: {{stage.setting: [values]}}` adds an experiment for every combination of values. `rows` are
experiments, patterns of them (`sipe*`) or names that stand in `reported` alone; a table without
`rows` has those of `reported`. `columns` are `stage.miou`, `stage.iou.class` (`*` for all) and
`maps.best_threshold_miou`; `test.miou` and `test_crf.miou` are figures of a test server, which
`reported` alone can fill. `reported` holds a paper's figures by row: one number, a list in the
order of the columns (null for none) or a mapping of columns. `share_of` names the row that is
100 %: one for all rows (`supervised`), or one for each (`{{sipe: supervised}}`).

`preset: name`, beside the stages of an experiment or of `defaults`, puts a recipe for the segmenter
between what it is based on and its own settings:

{presets}
Its figures are in `workflow_scripts/protoseg/settings/presets/`.
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_page() -> str:
    """The whole page; equal classes give equal text."""
    groups: dict[str, type] = {"dataset": DatasetSettings, **STAGES}
    presets = [f"- `{name}`: {preset['description']}\n" for name, preset in PRESETS.items()]
    factors = ", ".join(map(str, BACKGROUND_FACTORS))
    header = HEADER.format(presets="".join(presets), factors=factors)
    return "\n".join([header, *(stage_section(name, kind) for name, kind in groups.items())])


def stage_section(name: str, settings: type) -> str:
    """Heading, the class's sentence, and a table with one line per setting."""
    lines = [
        f"## {name}",
        "",
        (settings.__doc__ or "").strip(),
        "",
        "| setting | default | allowed | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for key, schema in stage_schema(settings)["properties"].items():
        cells = [f"`{key}`", code(schema["default"]), allowed(schema), schema["description"]]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def allowed(schema: dict[str, Any]) -> str:
    """Type and limits in words: `integer ≥ 1`, `list of 2 numbers`, or the choices."""
    if "enum" in schema:
        return ", ".join(code(choice) for choice in schema["enum"])
    if schema["type"] == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        count = f"{low} " if low == high else f"{low} or more " if low else ""
        return f"list of {count}{schema['items']['type']}s{bounds(schema['items'])}"
    if schema["type"] == "boolean":
        return "`true`, `false`"
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return " or ".join(types) + bounds(schema)


def bounds(schema: dict[str, Any]) -> str:
    """Limits of a number with a leading blank, nothing where there are none."""
    found = [f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema]
    return f" {' and '.join(found)}" if found else ""


def code(value: Any) -> str:
    """A value as in the configuration, in code type."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text}`"
