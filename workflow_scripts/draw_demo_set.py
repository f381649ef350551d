"""Draw the generated demo data set at dataset.root, in the VOC layout."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.demo_set import draw_demo_set
from protoseg.data.voc import dataset_settings


def main(arguments: Arguments) -> None:
    settings = dataset_settings(arguments.settings)
    draw_demo_set(
        Path(settings.root),
        settings.demo_train_images,
        settings.demo_val_images,
        settings.demo_size,
        settings.demo_seed,
    )


if __name__ == "__main__":
    run(main, __doc__, settings=Path)
