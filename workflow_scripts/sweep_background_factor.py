"""Score prototype maps at several background factors of inference, in one pass over the images."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import IMAGES, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.localization.class_prototypes import read_class_prototypes
from protoseg.localization.train import load_network
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import read_stage_settings, write_atomically
from protoseg.sweep import sweep_background_factor
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, _, _ = read_stage_settings(arguments.settings, "maps", MapsSettings)
    index = read_index(arguments.index)
    device = default_device()
    network, classifier = load_network(arguments.weights, device)
    table = sweep_background_factor(
        network,
        classifier,
        index,
        select_ids(index, arguments.list),
        settings,
        arguments.factors,
        device,
        read_class_prototypes(arguments.class_prototypes, device),
    )
    write_atomically(arguments.output, table.to_csv(index=False).encode())


if __name__ == "__main__":
    run(
        main, __doc__, **IMAGES, weights=Path, class_prototypes=[Path], factors=[float], output=Path
    )
