"""Make pseudo labels of one shard by denseCRF: those that are scored, and the IR labels."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import IMAGES, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.progress import progress
from protoseg.pseudo_labels.generate import make_pseudo_labels
from protoseg.settings.schema import PseudoLabelsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import ResultReader, shard_of, write_results


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(
        arguments.settings, "pseudo_labels", PseudoLabelsSettings
    )
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    reader = ResultReader([arguments.maps], "maps")
    reader.check_ids(ids, arguments.list)
    labels = make_pseudo_labels(index, ids, reader, settings, arguments.workers)
    names = index.class_names
    with (
        write_results(arguments.labels, "labels", names, fingerprint) as scored_writer,
        write_results(arguments.ir_labels, "labels", names, fingerprint) as ir_writer,
    ):
        for image_id, scored, ir_label in progress(labels, len(ids), "pseudo labels"):
            scored_writer.write_label(image_id, scored)
            ir_writer.write_label(image_id, ir_label)


if __name__ == "__main__":
    options = IMAGES | {"shard": str, "maps": Path, "labels": Path, "ir_labels": Path}
    run(main, __doc__, **options)
