"""Draw curves of losses or of background thresholds from a specification: one PNG."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.report.curves import draw_curves
from protoseg.report.inputs import read_json


def main(arguments: Arguments) -> None:
    draw_curves(read_json(arguments.spec), arguments.output)


if __name__ == "__main__":
    run(main, __doc__, spec=Path, output=Path)
