"""Shared fixtures: golden outputs of the published implementations, and small helpers.

The golden folder comes from the environment variable PROTOSEG_GOLDEN and defaults to
``../shared/golden`` beside the checkout. Where it is absent, every parity test skips and says so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("PROTOSEG_GOLDEN", REPOSITORY.parent / "shared" / "golden"))


def golden_files(topic: str, pattern: str) -> list[Any]:
    """One pytest parameter per file of ``GOLDEN/topic`` that matches ``pattern``.

    Without such files the list holds a single parameter that skips with the reason.
    """
    files = sorted((GOLDEN / topic).glob(pattern))
    if files:
        return [pytest.param(file, id=f"{topic}/{file.stem}") for file in files]
    reason = f"no {topic}/{pattern} under {GOLDEN}; set PROTOSEG_GOLDEN to the golden folder"
    return [pytest.param(None, id=f"{topic}/absent", marks=pytest.mark.skip(reason=reason))]
