"""Refine the maps of one shard into labels by random walk along the affinities."""

from __future__ import annotations

from pathlib import Path

from protoseg.affinity.model import load_model
from protoseg.affinity.refine import refine_labels
from protoseg.command import SHARD, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.prefetch import run_ahead
from protoseg.progress import progress
from protoseg.settings.schema import RefinedLabelsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import ResultReader, shard_of, write_labels
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(
        arguments.settings, "refined_labels", RefinedLabelsSettings
    )
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    device = default_device()
    model = load_model(arguments.weights, device)
    reader = ResultReader([arguments.maps], "maps")
    reader.check_ids(ids, arguments.list)
    labels = refine_labels(model, index, ids, reader, settings, device)
    labels = progress(run_ahead(labels), len(ids), "refined labels")
    write_labels(arguments.output, index.class_names, fingerprint, labels)


if __name__ == "__main__":
    run(main, __doc__, **SHARD, maps=Path, weights=Path)
