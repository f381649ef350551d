"""Refine the predictions of one shard by denseCRF on the segmenter's scores."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import SHARD, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.progress import progress
from protoseg.segmentation.refinement import refine_predictions
from protoseg.settings.predictions import PredictionsCRFSettings, PredictionsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import ResultReader, shard_of, write_labels


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(
        arguments.settings, "predictions_crf", PredictionsCRFSettings
    )
    predictions, _, _ = read_stage_settings(
        arguments.predictions, "predictions", PredictionsSettings
    )
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    reader = ResultReader([arguments.scores], "scores")
    labels = refine_predictions(
        index, ids, reader, settings, predictions.align_corners, arguments.workers
    )
    labels = progress(labels, len(ids), "predictions")
    write_labels(arguments.output, index.class_names, fingerprint, labels)


if __name__ == "__main__":
    run(main, __doc__, **SHARD, scores=Path, predictions=Path)
