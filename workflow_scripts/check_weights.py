"""Check that a weights file fits its backbone, before anything trains from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from protoseg.backbones import build_backbone
from protoseg.command import Arguments, run
from protoseg.settings.stage_file import settings_text, write_atomically


def main(arguments: Arguments) -> None:
    backbone = build_backbone(arguments.backbone, arguments.weights)
    digest = hashlib.sha256()
    for key, value in sorted(backbone.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    found = {
        "backbone": arguments.backbone,
        "weights": arguments.weights,
        "sha256": digest.hexdigest(),
    }
    write_atomically(arguments.output, settings_text(found).encode())


if __name__ == "__main__":
    run(main, __doc__, backbone=str, weights=str, output=Path)
