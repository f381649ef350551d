"""The settings file of one stage: what its script reads, and nothing else of the configuration.

`{stage}/settings.json` holds `seed` and the stage's own settings, sorted. It is the input that
makes the stage rerun, and its provenance.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

from protoseg.errors import InputError
from protoseg.settings.fields import from_mapping

Settings = TypeVar("Settings")


def settings_text(values: dict[str, Any]) -> str:
    """Sorted, indented JSON: equal settings give equal bytes."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def fingerprint(values: dict[str, Any]) -> str:
    """Short digest of settings, written into every result file."""
    return hashlib.sha256(settings_text(values).encode()).hexdigest()[:16]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside ``path``, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def read_stage_settings(path: Path, stage: str, kind: type[Settings]) -> tuple[Settings, int, str]:
    """Settings object, seed and fingerprint of ``stage`` from its settings.json."""
    values = json.loads(path.read_text())
    if stage not in values:
        raise InputError(f"{path} is not a settings file of stage {stage}")
    return from_mapping(kind, values[stage]), int(values["seed"]), fingerprint(values)
