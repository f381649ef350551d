"""Time what Snakemake needs to plan many experiments, before anything runs.

    python benchmarks/plan.py [--experiments 200] [--seeds 3] [--shards 4] [--differ classifier]
    python benchmarks/plan.py --papers voc12 [--seeds 3]

The first writes a configuration of experiments that differ in one stage, by default first in the
classifier, where nothing but the index is shared, then in the segmenter, where all of its inputs
are. The second takes all files of `experiments/voc12` together, as `snakemake --configfile
experiments/voc12/*.yaml seeds.yaml` does where seeds.yaml says `seeds: [0, 1, 2]`. Each is planned
by `snakemake -n` and listed by `snakemake --summary` in an empty folder, without any data. Prints
for each command the wall clock, the processor time and the peak memory of its process, and the
number of jobs by rule.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

LOG = logging.getLogger("plan")
REPOSITORY = Path(__file__).resolve().parent.parent
STAGES = ("maps", "pseudo_labels", "refined_labels", "predictions")
SWEPT = {"classifier": "epochs", "segmenter": "iterations"}
STATS = re.compile(r"^job +count\n-+ +-+\n(.*?)\n\n", re.MULTILINE | re.DOTALL)


def configuration(experiments: int, seeds: int, shards: int, stage: str) -> dict[str, Any]:
    """As many experiments, one row each, that differ from the first in ``stage`` alone."""
    width = len(str(experiments - 1))
    names = [f"experiment{number:0{width}}" for number in range(experiments)]
    others = {
        name: {"base": names[0], stage: {SWEPT[stage]: 100 + number}}
        for number, name in enumerate(names[1:])
    }
    return {
        "dataset": {"name": "planned", "kind": "voc", "root": "data"},
        "seeds": list(range(seeds)),
        "shards": shards,
        "experiments": {names[0]: {}, **others},
        "tables": {"all": {"rows": names, "columns": [f"{stage}.miou" for stage in STAGES]}},
    }


def snakemake(folder: Path, files: Sequence[Path], *options: str) -> str:
    """Run Snakemake in ``folder`` on these configuration files; log its cost, return its output.

    Raises:
        CalledProcessError: its status is not 0.
    """
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    given = ["--configfile", *map(str, files), "--workflow-profile", "none"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *where, *given, *options]
    output = folder / "output.txt"
    started = time.perf_counter()
    with output.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        LOG.error("%s", output.read_text())
        raise subprocess.CalledProcessError(process.returncode, command)
    processor = usage.ru_utime + usage.ru_stime
    mebibytes = usage.ru_maxrss / 1024
    line = "  %-24s %7.1f s, %7.1f s of processor, %6.0f MiB"
    LOG.info(line, " ".join(options), seconds, processor, mebibytes)
    return output.read_text()


def plan(folder: Path, files: Sequence[Path]) -> None:
    """Plan and list one configuration, given in one or more files, in an empty folder."""
    stats = STATS.findall(snakemake(folder, files, "--dry-run", "--quiet", "rules"))
    lines = snakemake(folder, files, "--summary").splitlines()
    LOG.info("  %-24s %7d lines", "the summary has", len(lines))
    for rule, count in map(str.split, stats[0].splitlines()):
        LOG.info("  %-24s %7s jobs", rule, count)


def plan_made_up(experiments: int, seeds: int, shards: int, stage: str) -> None:
    """Plan and list experiments that differ in ``stage``."""
    title = "%d experiments x %d seeds, %d shards, differing in the %s"
    LOG.info(title, experiments, seeds, shards, stage)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "config.yaml"
        file.write_text(yaml.safe_dump(configuration(experiments, seeds, shards, stage)))
        plan(Path(name), [file])


def plan_papers(dataset: str, seeds: int) -> None:
    """Plan and list the tables of all papers on one data set."""
    files = sorted((REPOSITORY / "experiments" / dataset).glob("*.yaml"))
    LOG.info("%s of %s x %d seeds", ", ".join(file.stem for file in files), dataset, seeds)
    with tempfile.TemporaryDirectory() as name:
        last = Path(name) / "seeds.yaml"
        last.write_text(yaml.safe_dump({"seeds": list(range(seeds))}))
        plan(Path(name), [*files, last])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=4, help="jobs per part of a scattered rule")
    parser.add_argument("--differ", nargs="+", choices=SWEPT, default=list(SWEPT), metavar="STAGE")
    parser.add_argument("--papers", choices=("voc12", "coco14"), help="plan these files instead")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if arguments.papers:
        plan_papers(arguments.papers, arguments.seeds)
        return
    for stage in arguments.differ:
        plan_made_up(arguments.experiments, arguments.seeds, arguments.shards, stage)


if __name__ == "__main__":
    main()
