"""Stands in for `python` in the shell commands of the rules, so that a workflow takes seconds.

In: a command line of a rule. Out: every file that the command would write, holding a digest of the
command's name, of its settings and of the content of the files it reads. So a result changes where
its causes change, and comes out byte for byte equal where they do not. `--code` is left out: code
that changes need not change a result. A command line that names STAND_IN_FAILS fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

OUTPUTS = {"output", "history"}
WITHOUT_EFFECT = {"code", "checkpoint", "workers"}


def options(arguments: list[str]) -> dict[str, list[str]]:
    """`--name value value` -> {name: [value, value]}."""
    found: dict[str, list[str]] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:]
            found[name] = []
        else:
            found[name].append(argument)
    return found


def written(command: str, given: dict[str, list[str]]) -> list[Path]:
    """Files that a command writes."""
    if command == "draw_demo_set":
        root = Path(json.loads(Path(given["settings"][0]).read_text())["dataset"]["root"])
        lists = root / "ImageSets" / "Segmentation"
        return [lists / f"{name}.txt" for name in ("train_aug", "train", "val")]
    if command == "index_dataset":
        return [Path(given["output"][0], name) for name in ("images.csv", "dataset.json")]
    if command == "make_table":
        stem = Path(given["output"][0], Path(given["spec"][0]).stem)
        return [stem.with_suffix(f".{kind}") for kind in ("csv", "md", "tex", "html")]
    names = set(OUTPUTS)
    if command.startswith("train_"):
        names.add("weights")
    if command == "make_pseudo_labels":
        names |= {"labels", "ir-labels"}
    if command == "predict":
        names.add("scores")
    return [Path(given[name][0]) for name in names & set(given)]


def main() -> None:
    script, *arguments = sys.argv[1:]
    failing = os.environ.get("STAND_IN_FAILS")
    if failing and failing in " ".join(arguments):
        sys.exit(1)
    command = Path(script).stem
    given = options(arguments)
    files = written(command, given)
    digest = hashlib.sha256(command.encode())
    for name, values in given.items():
        for value in values if name not in WITHOUT_EFFECT else []:
            path = Path(value)
            digest.update(path.read_bytes() if path.is_file() else value.encode())
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.name} {digest.hexdigest()}\n")


if __name__ == "__main__":
    main()
