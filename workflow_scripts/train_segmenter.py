"""Train the segmenter on refined labels, pseudo labels or, without any given, the ground truth."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from protoseg.command import TRAINING, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.labelled import LabelledDataset, ground_truth, stored_labels
from protoseg.data.selection import select_ids
from protoseg.segmentation.train import train_segmenter
from protoseg.settings.schema import SegmenterSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import ResultReader
from protoseg.training.checkpoint import (
    files_among,
    save_history,
    save_weights,
    training_fingerprint,
)
from protoseg.training.distributed import on_all_gpus, rank


def main(arguments: Arguments) -> None:
    settings, seed, fingerprint = read_stage_settings(
        arguments.settings, "segmenter", SegmenterSettings
    )
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    if settings.labels == "ground_truth":
        labels = ground_truth(index, ids, arguments.list)
    else:
        labels = stored_labels(ResultReader(arguments.labels, "labels"), ids, arguments.list)
    initial = files_among(settings.weights, settings.init)
    files = [*arguments.labels, *arguments.classifier, *initial]
    network, history, about = train_segmenter(
        LabelledDataset(
            index,
            ids,
            labels,
            settings.crop,
            settings.scale,
            seed,
            settings.hsv_jitter,
            Image.Resampling[settings.interpolation.upper()],
        ),
        settings,
        seed,
        classifier=next(iter(arguments.classifier), None),
        workers=arguments.workers,
        fingerprint=training_fingerprint(fingerprint, arguments.code, index, ids, files),
        checkpoint=arguments.checkpoint,
    )
    if rank() == 0:
        save_weights(arguments.weights, network, about)
        save_history(arguments.history, history, arguments.checkpoint)


if __name__ == "__main__":
    run(on_all_gpus(main), __doc__, **TRAINING, labels=[Path], classifier=[Path])
