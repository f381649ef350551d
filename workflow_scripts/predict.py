"""Predict one shard of a list with the trained segmenter."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import SHARD, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.progress import progress
from protoseg.segmentation.inference import predict
from protoseg.segmentation.train import load_segmenter
from protoseg.settings.schema import PredictionsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import shard_of, write_labels
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(
        arguments.settings, "predictions", PredictionsSettings
    )
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    device = default_device()
    network = load_segmenter(arguments.weights, device)
    labels = predict(network, index, ids, settings, device, arguments.workers)
    labels = progress(labels, len(ids), "predictions")
    write_labels(arguments.output, index.class_names, fingerprint, labels)


if __name__ == "__main__":
    run(main, __doc__, **SHARD, weights=Path)
