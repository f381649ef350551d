"""Check every file of a data set and write its index: images.csv and dataset.json."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.coco import index_coco
from protoseg.data.folder import index_folder
from protoseg.data.index import write_index
from protoseg.data.voc import dataset_settings, index_voc


def main(arguments: Arguments) -> None:
    settings, workers = dataset_settings(arguments.settings), arguments.workers
    if settings.kind == "coco":
        index = index_coco(settings, arguments.output / "masks", workers)
    elif settings.kind == "folder":
        index = index_folder(settings, workers)
    else:
        index = index_voc(settings, workers)
    write_index(index, arguments.output)


if __name__ == "__main__":
    run(main, __doc__, settings=Path, output=Path)
