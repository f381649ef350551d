"""Train the affinity network on IR labels."""

from __future__ import annotations

from pathlib import Path

from protoseg.affinity.model import describe
from protoseg.affinity.train import train_affinity
from protoseg.command import TRAINING, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.labelled import LabelledDataset, stored_labels
from protoseg.data.selection import select_ids
from protoseg.settings.schema import AffinitySettings
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
        arguments.settings, "affinity", AffinitySettings
    )
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    labels = stored_labels(ResultReader(arguments.labels, "labels"), ids, arguments.list)
    files = [*arguments.labels, *arguments.classifier, *files_among(settings.weights)]
    model, history = train_affinity(
        LabelledDataset(index, ids, labels, settings.crop, settings.scale, seed),
        settings,
        seed,
        classifier=next(iter(arguments.classifier), None),
        workers=arguments.workers,
        fingerprint=training_fingerprint(fingerprint, arguments.code, index, ids, files),
        checkpoint=arguments.checkpoint,
    )
    if rank() == 0:
        save_weights(arguments.weights, model, describe(settings, seed))
        save_history(arguments.history, history, arguments.checkpoint)


if __name__ == "__main__":
    run(on_all_gpus(main), __doc__, **TRAINING, labels=[Path], classifier=[Path])
