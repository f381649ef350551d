"""What the workflow needs on SLURM before it reads anything else; no science.

In: Snakemake's command line. Out: the command line to run in its place, in two cases.

1. `--profile profiles/slurm`: Snakemake reads profiles/default after it and lets that win, with one
   GPU, no memory and no partition. The same command leaves profiles/default out.
2. A task of an array: the executor plugin (2.8.0) starts each as the array's first job, which runs
   the task's command and then checks the first job's outputs. A task that ends long before the
   first would fail (snakemake/snakemake-executor-plugin-slurm, issue 447). Its command alone does
   not.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Mapping

import yaml

ARRAY_OPTION = "--slurm-jobstep-array-execs="


def become_the_right_command() -> None:
    """Replace this process where it is one of the two cases."""
    arguments = sys.argv[1:]
    command = without_local_profile(arguments, os.environ) or array_task(arguments, os.environ)
    if command:
        os.execvp(command[0], command)


def without_local_profile(arguments: list[str], environment: Mapping[str, str]) -> list[str]:
    """The command without profiles/default, where it names a profile for SLURM; else nothing."""
    named = any(argument.startswith("--profile") for argument in arguments)
    if not (named or environment.get("SNAKEMAKE_PROFILE")) or "--mode" in arguments:
        return []  # a job on a node has a mode, and reads no profile
    from snakemake.cli import get_argument_parser

    given = get_argument_parser().parse_args(arguments)
    if given.workflow_profile or not any(map(is_for_slurm, given.profile)):
        return []
    return [sys.executable, "-m", "snakemake", "--workflow-profile", "none", *arguments]


def is_for_slurm(profile: str) -> bool:
    """Whether the executor of the profile with that path or name is SLURM."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(profile)
    return found is not None and yaml.safe_load(found[1].read_text()).get("executor") == "slurm"


def array_task(arguments: list[str], environment: Mapping[str, str]) -> list[str]:
    """The command of this task of an array; nothing outside of arrays, and for the first task."""
    given = [a.removeprefix(ARRAY_OPTION) for a in arguments if a.startswith(ARRAY_OPTION)]
    if not given:
        return []
    from snakemake_executor_plugin_slurm_jobstep import parse_array_execs

    compressed = parse_array_execs(given[0]).get(environment["SLURM_ARRAY_TASK_ID"])
    if compressed is None:
        return []
    return ["sh", "-c", zlib.decompress(bytes.fromhex(compressed)).decode()]
