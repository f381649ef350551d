"""Work in processes: in order, elsewhere, and not beyond the life of the process that asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protoseg.processes import map_in_processes

SCRIPTS = Path(__file__).resolve().parent.parent / "workflow_scripts"
PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from protoseg.processes import map_in_processes

def work(item):
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    list(map_in_processes(work, [1, 2], 2, chunk=1))
"""


def test_results_come_in_order() -> None:
    assert list(map_in_processes(abs, range(-20, 0), 2, chunk=3)) == list(range(20, 0, -1))


@pytest.mark.parametrize(("workers", "here"), [(1, True), (2, False)])
def test_one_worker_is_this_process(workers: int, here: bool) -> None:
    processes = map_in_processes(os.readlink, ["/proc/self"] * 4, workers, chunk=1)
    assert all((process == str(os.getpid())) == here for process in processes)


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script), str(SCRIPTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(lives, workers))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, workers))


def lives(process: int) -> bool:
    """Whether a process runs; one that has ended but is not yet collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
