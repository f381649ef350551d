"""Join the shards of a scattered stage into one file."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.storage import merge_results


def main(arguments: Arguments) -> None:
    merge_results(arguments.parts, arguments.output, arguments.kind)


if __name__ == "__main__":
    run(main, __doc__, kind=str, parts=[Path], output=Path)
