"""Score localization maps against the masks of a list."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import IMAGES, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.evaluation import evaluate_maps, to_json
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import read_stage_settings, write_atomically
from protoseg.storage import ResultReader


def main(arguments: Arguments) -> None:
    settings, _, _ = read_stage_settings(arguments.settings, "maps", MapsSettings)
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    reader = ResultReader([arguments.maps], "maps")
    metrics = evaluate_maps(
        index, ids, arguments.list, reader, settings.evaluation_background_factor
    )
    write_atomically(arguments.output, to_json(metrics))


if __name__ == "__main__":
    run(main, __doc__, **IMAGES, maps=Path, output=Path)
