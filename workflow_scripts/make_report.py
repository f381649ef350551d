"""Make the report, one HTML file with every table, figure, run time and the provenance."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.report.html import write_report
from protoseg.report.inputs import read_json


def main(arguments: Arguments) -> None:
    write_report(read_json(arguments.spec), arguments.commit, arguments.output)


if __name__ == "__main__":
    run(main, __doc__, spec=Path, commit=str, output=Path)
