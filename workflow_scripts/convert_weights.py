"""Convert a weights file with foreign keys into one that `weights: path` loads."""

from __future__ import annotations

from pathlib import Path

from protoseg.backbones import build_backbone
from protoseg.backbones.conversion import FORMATS, load_foreign
from protoseg.backbones.weights import WeightsError
from protoseg.command import Arguments, run
from protoseg.training.checkpoint import save


def main(arguments: Arguments) -> None:
    if arguments.format not in FORMATS:
        raise WeightsError(f"no format {arguments.format!r}; known: {', '.join(FORMATS)}")
    form = FORMATS[arguments.format]
    backbone = build_backbone(form.backbone, "random")
    load_foreign(backbone, arguments.input, form)
    save(arguments.output, dict(backbone.state_dict()))


if __name__ == "__main__":
    run(main, __doc__, format=str, input=Path, output=Path)
