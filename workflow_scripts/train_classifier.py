"""Train the classifier from which localization maps are read."""

from __future__ import annotations

from protoseg.command import TRAINING, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.localization.train import train_classifier
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.training.checkpoint import save_history, save_weights
from protoseg.training.distributed import on_all_gpus, rank


def main(arguments: Arguments) -> None:
    settings, seed, fingerprint = read_stage_settings(
        arguments.settings, "classifier", ClassifierSettings
    )
    index = read_index(arguments.index)
    network, history, about = train_classifier(
        index,
        select_ids(index, arguments.list),
        settings,
        seed,
        workers=arguments.workers,
        fingerprint=f"{fingerprint}-{arguments.code}",
        checkpoint=arguments.checkpoint,
    )
    if rank() == 0:
        save_weights(arguments.weights, network, about)
        save_history(arguments.history, history, arguments.checkpoint)


if __name__ == "__main__":
    run(on_all_gpus(main), __doc__, **TRAINING)
