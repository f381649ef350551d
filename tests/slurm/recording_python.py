"""Stands in for `python` in the jobs: runs the command, and records where and when it ran.

In: a command line of a rule, SLURM's environment, `RECORDS` (a folder) and `PAUSE` (seconds). Out:
what the command does, and a JSON file in `RECORDS`, without `ended` where the command was killed
outright. A training that starts from nothing pauses after every checkpoint, so that there is time
to interrupt it; one that resumes does not. The one whose checkpoint stands in the file `hangs` of
`RECORDS` hangs after its first checkpoint and takes no notice of TERM. The first task of the array
of pseudo labels pauses four times as long: the others end long before it.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURMD_NODENAME",
    "CUDA_VISIBLE_DEVICES",
)


def slow_down(seconds: float) -> None:
    """Sleep after every checkpoint."""
    module: Any = importlib.import_module("protoseg.training.fit")
    save = module._save

    def save_and_sleep(*arguments: Any) -> None:
        save(*arguments)
        time.sleep(seconds)

    module._save = save_and_sleep


def ignore_term() -> None:
    """For good: neither this process, which will set its own handler, nor its workers notice it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    vars(signal)["signal"] = lambda number, handler: None


def hangs(checkpoint: Path) -> bool:
    """Whether the training of this checkpoint is the one to hang."""
    named = Path(os.environ["RECORDS"], "hangs")
    return named.is_file() and named.read_text() == str(checkpoint)


def write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all: the tests read while the jobs write."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def main() -> None:
    sys.argv = sys.argv[1:]
    script = Path(sys.argv[0]).resolve()
    sys.path[0] = str(script.parent)
    record: dict[str, Any] = {name: os.environ.get(name) for name in VARIABLES}
    record |= {"command": script.stem, "arguments": sys.argv[1:], "started": time.time()}
    path = Path(os.environ["RECORDS"], f"{record['started']}-{os.getpid()}.json")
    write(path, record)
    pause = float(os.environ["PAUSE"])
    if record["command"] == "make_pseudo_labels" and record["SLURM_ARRAY_TASK_ID"] == "1":
        time.sleep(4 * pause)
    if "--checkpoint" in sys.argv:
        checkpoint = Path(sys.argv[sys.argv.index("--checkpoint") + 1])
        if not checkpoint.is_file():
            hanging = hangs(checkpoint)
            slow_down(600 if hanging else pause)
            if hanging:
                ignore_term()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        write(path, record | {"ended": time.time()})


if __name__ == "__main__":
    main()
