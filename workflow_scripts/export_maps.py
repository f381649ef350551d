"""Export multi-scale localization maps of one shard of a list."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import SHARD, Arguments, run
from protoseg.data.index import read_index
from protoseg.data.selection import select_ids
from protoseg.localization.class_prototypes import read_class_prototypes
from protoseg.localization.export import export_maps
from protoseg.localization.train import load_network
from protoseg.prefetch import run_ahead
from protoseg.progress import progress
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import read_stage_settings
from protoseg.storage import shard_of, write_results
from protoseg.training.precision import default_device


def main(arguments: Arguments) -> None:
    settings, _, fingerprint = read_stage_settings(arguments.settings, "maps", MapsSettings)
    index = read_index(arguments.index)
    ids = shard_of(select_ids(index, arguments.list), arguments.shard)
    device = default_device()
    network, classifier = load_network(arguments.weights, device)
    prototypes = read_class_prototypes(arguments.class_prototypes, device)
    maps = export_maps(network, classifier, index, ids, settings, device, prototypes)
    with write_results(arguments.output, "maps", index.class_names, fingerprint) as writer:
        for image_id, image_maps in progress(run_ahead(maps), len(ids), "maps"):
            writer.write_maps(image_id, image_maps)


if __name__ == "__main__":
    run(main, __doc__, **SHARD, weights=Path, class_prototypes=[Path])
