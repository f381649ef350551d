"""Run every benchmark and write their table into docs/performance.md.

    make bench [ONLY="soft_crf export"]

With names, only those run and the document stays as it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from measure import Comparison, Cost

LOG = logging.getLogger("performance")
BENCHMARKS = (
    "prototypes",
    "export",
    "pseudo_labels",
    "affinity_step",
    "random_walk",
    "soft_crf",
    "evaluation",
)
SMALLEST = 4  # MiB; no ratio of memory below it
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PLACE = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


def table(comparisons: list[Comparison]) -> str:
    """Markdown table, one row per comparison; times are core-seconds of one item."""

    def cost(of: Cost) -> str:
        memory = f"{of.mebibytes:,.0f}" if of.mebibytes >= SMALLEST else f"< {SMALLEST}"
        return f"{of.core_seconds:.3g} s, {memory} MiB"

    lines = [
        "| stage | textbook | protoseg | times faster | times less memory | target | outputs |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for one in comparisons:
        small = min(one.textbook.mebibytes, one.protoseg.mebibytes) < SMALLEST
        ratios = f"{one.speed:,.1f} | {'–' if small else f'{one.memory:,.1f}'}"
        costs = f"{cost(one.textbook)} | {cost(one.protoseg)}"
        lines.append(f"| {one.stage} | {costs} | {ratios} | {one.target} | {one.outputs} |")
    return "\n".join(lines)


def measured(name: str) -> list[Comparison]:
    """Comparisons of one benchmark, from an interpreter of its own.

    What an earlier one has freed would be reused, and be missing in the growth of memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "comparisons.json"
        script = Path(__file__).with_name(f"{name}.py")
        subprocess.run([sys.executable, str(script), "--json", str(file)], check=True)
        found = json.loads(file.read_text())
    return [
        Comparison(**one | {form: Cost(**one[form]) for form in ("textbook", "protoseg")})
        for one in found
    ]


def processor() -> str:
    """Model of the processor, as Linux names it."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    only = parser.parse_args().only
    if unknown := set(only) - set(BENCHMARKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    comparisons = [one for name in only or BENCHMARKS for one in measured(name)]
    if not only:
        folder = os.environ.get("PROTOSEG_BENCH_IMAGES")
        images = f"images of {Path(folder).name}" if folder else "drawn images"
        about = f"Measured on {processor()}, one thread, torch {torch.__version__}, {images}."
        block = f"{about}\n\n{table(comparisons)}\n"
        DOCUMENT.write_text(PLACE.sub(lambda m: m[1] + block + m[2], DOCUMENT.read_text()))
        LOG.info("%s is written", DOCUMENT)


if __name__ == "__main__":
    main()
