"""Check VOC 2012 as downloaded, and make train_aug.txt and SegmentationClassAug with SBD."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.data.train_aug import prepare_voc


def main(arguments: Arguments) -> None:
    prepare_voc(arguments.root, arguments.sbd, arguments.workers)


if __name__ == "__main__":
    run(main, __doc__, root=Path, sbd=Path)
