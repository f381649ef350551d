"""Train the classifier from which localization maps are read."""

from __future__ import annotations

from protoseg.command import TRAINING, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.localization.train import train_classifier
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.training.checkpoint import (
    files_among,
    save_history,
    save_weights,
    training_fingerprint,
)
from protoseg.training.distributed import on_all_gpus, rank


def main(arguments: Arguments) -> None:
    settings, seed, fingerprint = read_stage_settings(
        arguments.settings, "classifier", ClassifierSettings
    )
    index = read_index(arguments.index)
    ids = select_ids(index, arguments.list)
    files = files_among(settings.weights)
    network, history, about = train_classifier(
        index,
        ids,
        settings,
        seed,
        workers=arguments.workers,
        fingerprint=training_fingerprint(fingerprint, arguments.code, index, ids, files),
        checkpoint=arguments.checkpoint,
    )
    if rank() == 0:
        save_weights(arguments.weights, network, about)
        save_history(arguments.history, history, arguments.checkpoint)


if __name__ == "__main__":
    run(on_all_gpus(main), __doc__, **TRAINING)
