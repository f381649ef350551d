"""Predict one shard of a list with the trained segmenter: labels, and scores for the denseCRF."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import SHARD, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.prefetch import run_ahead
from protoseg.progress import progress
from protoseg.segmentation.inference import predict
from protoseg.segmentation.train import load_segmenter
from protoseg.settings.predictions import PredictionsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import shard_of, write_results
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(
        arguments.settings, "predictions", PredictionsSettings
    )
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    device = default_device()
    network = load_segmenter(arguments.weights, device)
    predictions = predict(network, index, ids, settings, device)
    names = index.class_names
    with (
        write_results(arguments.output, "labels", names, fingerprint) as label_writer,
        write_results(arguments.scores, "scores", names, fingerprint) as score_writer,
    ):
        for image_id, label, scores in progress(run_ahead(predictions), len(ids), "predictions"):
            label_writer.write_label(image_id, label)
            score_writer.write_maps(image_id, scores)


if __name__ == "__main__":
    run(main, __doc__, **SHARD, weights=Path, scores=Path)
