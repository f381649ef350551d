"""The code digest: changes with the code behind a command, and with nothing else."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from protoseg.settings import provenance

LOSS = "protoseg/localization/losses.py"
CLASSIFIER = "train_classifier"


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the scripts and the library, which the digest reads instead."""
    copy = tmp_path / "workflow_scripts"
    shutil.copytree(provenance.SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "SCRIPTS", copy)
    return copy


def digest(script: str) -> str:
    provenance.code_digest.cache_clear()
    provenance.module_digest.cache_clear()
    return provenance.code_digest(script)


def change(path: Path, edit: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before


def test_place_of_the_checkout_does_not_matter(scripts: Path) -> None:
    here = digest(CLASSIFIER)
    shutil.move(scripts, scripts.parent / "moved")
    provenance.SCRIPTS = scripts.parent / "moved"
    assert digest(CLASSIFIER) == here


def test_comments_docstrings_and_layout_do_not_matter(scripts: Path) -> None:
    before = digest(CLASSIFIER)
    change(scripts / LOSS, lambda text: f"# Why.\n{text}".replace('"""Multi', '"""The multi'))
    change(scripts / f"{CLASSIFIER}.py", lambda text: ast.unparse(ast.parse(text)))
    assert digest(CLASSIFIER) == before


@pytest.mark.parametrize(
    "module",
    [
        f"{CLASSIFIER}.py",
        LOSS,
        "protoseg/training/fit.py",
        "protoseg/backbones/__init__.py",
        "protoseg/backbones/backbone.py",
        "protoseg/data/classification.py",
    ],
)
def test_code_behind_the_command_matters(scripts: Path, module: str) -> None:
    before = digest(CLASSIFIER)
    change(scripts / module, lambda text: f"{text}\nADDED = 1\n")
    assert digest(CLASSIFIER) != before


@pytest.mark.parametrize(
    "module",
    [
        "protoseg/metrics.py",
        "protoseg/affinity/losses.py",
        "protoseg/report/tables.py",
        "protoseg/settings/schema.py",
        "protoseg/command.py",
        "export_maps.py",
    ],
)
def test_code_of_other_stages_does_not_matter(scripts: Path, module: str) -> None:
    before = digest(CLASSIFIER)
    change(scripts / module, lambda text: f"{text}\nADDED = 1\n")
    assert digest(CLASSIFIER) == before


def test_scores_depend_on_metrics_alone(scripts: Path) -> None:
    before = digest("evaluate_labels")
    change(scripts / LOSS, lambda text: f"{text}\nADDED = 1\n")
    assert digest("evaluate_labels") == before
    change(scripts / "protoseg/metrics.py", lambda text: f"{text}\nADDED = 1\n")
    assert digest("evaluate_labels") != before


def test_a_changed_constant_in_a_function_matters(scripts: Path) -> None:
    before = digest(CLASSIFIER)
    change(scripts / LOSS, lambda text: text.replace("dim=(2, 3)", "dim=(3, 2)"))
    assert digest(CLASSIFIER) != before


def test_every_command_has_a_digest() -> None:
    commands = [path.stem for path in provenance.SCRIPTS.glob("*.py")]
    assert len({digest(command) for command in commands}) == len(commands)
