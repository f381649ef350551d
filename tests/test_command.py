"""Commands: their options, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from protoseg.command import Arguments, parser, run
from protoseg.errors import InputError

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow_scripts"


def test_options() -> None:
    found = parser("text", {"maps": [Path], "ir_labels": Path}).parse_args(
        ["--maps", "a", "b", "--ir-labels", "c"]
    )
    assert found.maps == [Path("a"), Path("b")]
    assert (found.ir_labels, found.workers, found.code) == (Path("c"), 0, "")


def test_missing_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("text", {"maps": Path}).parse_args([])
    assert "--maps" in capsys.readouterr().err


def test_bad_input_is_one_message_and_status_one(tmp_path: Path) -> None:
    arguments = ["--kind", "maps", "--parts", str(tmp_path / "absent.h5"), "--output", "x.h5"]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "merge_shards.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("ERROR") == 1
    assert "absent.h5 cannot be read" in done.stderr


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def bad_input(arguments: Arguments) -> None:
        raise InputError("mend the setting")

    def bug(arguments: Arguments) -> None:
        raise KeyError("bug")

    with pytest.raises(SystemExit, match="1"):
        run(bad_input, None)
    with pytest.raises(KeyError, match="bug"):
        run(bug, None)


def test_termination_cleans_up(tmp_path: Path) -> None:
    """SIGTERM, as a scheduler sends it, removes the temporary file."""
    code = """
import os, signal
from pathlib import Path
from protoseg.command import run
from protoseg.storage import write_results

def main(arguments):
    with write_results(arguments.output, "labels", ["background"], "f"):
        os.kill(os.getpid(), signal.SIGTERM)

run(main, None, output=Path)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "--output", str(tmp_path / "labels.h5")],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
