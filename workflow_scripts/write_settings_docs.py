"""Write the settings page of the documentation from the settings classes."""

from __future__ import annotations

from pathlib import Path

from protoseg.command import Arguments, run
from protoseg.settings.documentation import settings_page
from protoseg.settings.stage_file import write_atomically


def main(arguments: Arguments) -> None:
    write_atomically(arguments.output, settings_page().encode())


if __name__ == "__main__":
    run(main, __doc__, output=Path)
