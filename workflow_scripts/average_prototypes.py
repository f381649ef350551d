"""Average the prototypes of each class over images of the training list."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import IMAGES, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.localization.class_prototypes import (
    average_prototypes,
    prototype_images,
    write_class_prototypes,
)
from protoseg.localization.train import load_network
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, seed, _ = read_stage_settings(arguments.settings, "maps", MapsSettings)
    index = read_index(arguments.index)
    device = default_device()
    network, classifier = load_network(arguments.weights, device)
    ids = prototype_images(
        index,
        select_ids(index, arguments.list),
        classifier.fraction,
        settings.class_prototype_images,
        seed,
    )
    prototypes = average_prototypes(network, classifier, index, ids, settings, device)
    write_class_prototypes(arguments.output, prototypes)


if __name__ == "__main__":
    run(main, __doc__, **IMAGES, weights=Path, output=Path)
