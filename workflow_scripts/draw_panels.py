"""Draw the same images through the stages from a specification: one PNG."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.report.inputs import read_json
from protoseg.report.panels import draw_panels


def main(arguments: Arguments) -> None:
    draw_panels(read_json(arguments.spec), arguments.output)


if __name__ == "__main__":
    run(main, __doc__, spec=Path, output=Path)
