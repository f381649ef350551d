"""Write every label map of a result file as an indexed PNG with the VOC palette."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.palette import save_label_png
from protoseg.progress import progress
from protoseg.storage import ResultReader


def main(arguments: Arguments) -> None:
    reader = ResultReader([arguments.labels], "labels")
    ids = reader.ids()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for image_id in progress(ids, len(ids), "images"):
        save_label_png(arguments.output / f"{image_id}.png", reader.label(image_id))


if __name__ == "__main__":
    run(main, __doc__, labels=Path, output=Path)
