"""Score localization maps against the masks of a list."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.evaluation import evaluate_maps, to_json
from protoseg.settings.stage_file import write_atomically
from protoseg.storage import ResultReader


def main(arguments: Arguments) -> None:
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    metrics = evaluate_maps(index, ids, arguments.list, ResultReader([arguments.maps], "maps"))
    write_atomically(arguments.output, to_json(metrics))


if __name__ == "__main__":
    run(main, __doc__, index=Path, list=str, maps=Path, output=Path)
