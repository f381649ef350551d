"""The lock, the conda environment and the container agree, package by package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
CONTAINERS = sorted((REPOSITORY / "envs").glob("*.def"))
NEEDED = {"torch", "torchvision", "snakemake", "numpy", "pillow", "pydensecrf2", "h5py", "pandas"}
# Snakemake runs outside of the environments that it makes.
OUTSIDE = {"snakemake", "snakemake-executor-plugin-slurm"}


def pinned(lines: list[str]) -> dict[str, str]:
    """Package -> version of lines `name==version`."""
    return dict(line.split("==") for line in lines if not line.startswith("#"))


LOCK = pinned((REPOSITORY / "requirements.txt").read_text().splitlines())


def test_lock_has_every_package_in_one_version() -> None:
    assert set(LOCK) >= NEEDED | OUTSIDE
    assert all(re.fullmatch(r"[\d.]+", version) for version in LOCK.values())


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: file.name)
def test_conda_environment_has_the_versions_of_the_lock(file: Path) -> None:
    packages = yaml.safe_load(file.read_text())["dependencies"][-1]["pip"]
    assert pinned(packages) == {name: LOCK[name] for name in LOCK if name not in OUTSIDE}


@pytest.mark.parametrize("file", sorted((REPOSITORY / "rules").glob("*.smk")), ids=lambda f: f.name)
def test_every_rule_with_a_command_has_an_environment(file: Path) -> None:
    text = file.read_text()
    named = re.findall(r'conda:\n +"(.+)"', text)
    assert len(named) == text.count("    shell:\n")
    assert {(file.parent / name).resolve() for name in named} <= set(ENVIRONMENTS)


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.name)
def test_container_installs_the_lock_on_the_python_of_conda(file: Path) -> None:
    text = file.read_text()
    python = yaml.safe_load(file.with_suffix(".yaml").read_text())["dependencies"][0]
    assert f"From: {python.replace('=', ':')}\n" in text
    assert "\n    requirements.txt /opt/requirements.txt\n" in text
    assert "pip install --no-cache-dir -r /opt/requirements.txt\n" in text
