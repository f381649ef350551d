"""What every command of the pipeline shares: arguments, logging, and how it fails.

Each command is `run(main, __doc__, name=type, ...)`: every name becomes a `--name`, required unless
in `OPTIONAL`, and `main` gets the parsed namespace. Bad input ends with one message and status 1.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from protoseg.errors import InputError

LOG = logging.getLogger("protoseg")
Arguments = argparse.Namespace

# Options that commands have in common: of all that read images, of trainings, of scattered rules.
IMAGES: dict[str, Any] = {"settings": Path, "index": Path, "list": str}
TRAINING = IMAGES | {"checkpoint": Path, "weights": Path, "history": Path, "processes": int}
SHARD = IMAGES | {"shard": str, "output": Path}
OPTIONAL = {
    "processes": "processes that train together; one per GPU of a SLURM job without it",
    "sbd": "folder of SBD, or of masks as PNGs; SegmentationClassAug of the root without it",
}


def parser(description: str | None, options: dict[str, Any]) -> argparse.ArgumentParser:
    """Parser with one option per entry: required, but `workers` (0), `code` (empty), `OPTIONAL`."""
    result = argparse.ArgumentParser(description=description)
    for name, kind in options.items():
        several = isinstance(kind, list)
        result.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind[0] if several else kind,
            nargs="*" if several else None,
            required=name not in OPTIONAL,
            help=OPTIONAL.get(name),
        )
    result.add_argument("--workers", type=int, default=0, help="processes for loading or the CRF")
    result.add_argument("--code", default="", help="digest of the code, part of checkpoints")
    return result


def run(main: Callable[[Arguments], None], description: str | None, **options: Any) -> None:
    """Parse the command line, call ``main``, and turn an InputError into one message."""
    arguments = parser(description, options).parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main(arguments)
    except InputError as error:
        LOG.error("%s", error)
        sys.exit(1)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leave through SystemExit, so that loader processes and temporary files are cleaned up."""
    sys.exit(128 + number)
