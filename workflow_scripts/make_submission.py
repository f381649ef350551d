"""Pack predictions on a list without ground truth for VOC's test server, and check the archive."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.data.submission import check_submission, pixel_values, write_submission
from protoseg.storage import ResultReader


def main(arguments: Arguments) -> None:
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    reader = ResultReader([arguments.labels], "labels")
    reader.check_ids(ids, arguments.list)
    values = pixel_values(index)
    write_submission(arguments.output, ((id_, values[reader.label(id_)]) for id_ in ids))
    check_submission(arguments.output, {id_: index[id_].size for id_ in ids})


if __name__ == "__main__":
    run(main, __doc__, index=Path, list=str, labels=Path, output=Path)
