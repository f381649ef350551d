"""Check every file of a data set and write its index: images.csv and dataset.json."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.index import write_index
from protoseg.data.voc import dataset_settings, index_voc


def main(arguments: Arguments) -> None:
    settings = dataset_settings(arguments.settings)
    write_index(index_voc(settings, arguments.workers), arguments.output)


if __name__ == "__main__":
    run(main, __doc__, settings=Path, output=Path)
