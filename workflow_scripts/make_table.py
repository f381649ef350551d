"""Make one result table from its specification: {name}.csv, .md, .tex, .html in a folder."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.report.inputs import read_json
from protoseg.report.table_formats import write_table
from protoseg.report.tables import build_table


def main(arguments: Arguments) -> None:
    write_table(build_table(read_json(arguments.spec)), arguments.output)


if __name__ == "__main__":
    run(main, __doc__, spec=Path, output=Path)
