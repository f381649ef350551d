"""The command lines that are replaced on SLURM, and those that are not."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path

import pytest
from workflow.tiny_workflow import REPOSITORY

from protoseg.slurm import ARRAY_OPTION, array_task, without_local_profile

SLURM, LOCAL = (str(REPOSITORY / "profiles" / name) for name in ("slurm", "default"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", SLURM, "--", "maps"],
        [f"--profile={SLURM}", "maps"],
        ["maps", "--profile", f"{SLURM}/config.yaml"],
    ],
)
def test_slurm_profile_leaves_the_local_one_out(arguments: list[str]) -> None:
    command = without_local_profile(arguments, {})
    assert command == [sys.executable, "-m", "snakemake", "--workflow-profile", "none", *arguments]


def test_slurm_profile_of_the_variable_leaves_the_local_one_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNAKEMAKE_PROFILE", SLURM)  # Snakemake's parser reads it itself
    assert without_local_profile(["maps"], {"SNAKEMAKE_PROFILE": SLURM})[-1] == "maps"


def test_profile_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("executor: slurm\n")
    monkeypatch.chdir(tmp_path)
    assert without_local_profile(["--profile", "mine"], {})


@pytest.mark.parametrize(
    "arguments",
    [
        ["maps"],
        ["--profile", LOCAL],
        ["--profile", "none"],
        ["--workflow-profile", SLURM],
        ["--profile", SLURM, "--workflow-profile", "mine"],
        ["--profile", SLURM, "--mode", "remote"],
    ],
)
def test_other_commands_stay(arguments: list[str]) -> None:
    assert without_local_profile(arguments, {}) == []
    assert array_task(arguments, {}) == []


def test_a_task_of_an_array_runs_its_own_command() -> None:
    commands = {"18": zlib.compress(b"echo 18").hex(), "19": zlib.compress(b"echo 19").hex()}
    option = ARRAY_OPTION + base64.b64encode(json.dumps(commands).encode()).decode()
    assert array_task(["maps", option], {"SLURM_ARRAY_TASK_ID": "19"}) == ["sh", "-c", "echo 19"]
    assert array_task(["maps", option], {"SLURM_ARRAY_TASK_ID": "17"}) == []  # the first
