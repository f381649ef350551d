"""What a piece of work costs, and the comparison of two pieces of work that give the same result.

Every piece runs in a process of its own, forked where only the inputs exist, so that its peak of
memory is its own: no cache of another piece hides it. Start the interpreter with OMP_NUM_THREADS=1
(`make bench` does): threads of a pool do not survive the fork.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import multiprocessing
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
LOG = logging.getLogger("benchmark")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Cost:
    """Of one run: wall clock and processor time in seconds, growth of memory at its peak in MiB.

    Processor time includes child processes and what they started; memory is that of this process,
    or of a child that has ended if it had more.
    """

    seconds: float
    core_seconds: float
    mebibytes: float


@dataclass(frozen=True)
class Comparison:
    """The published algorithm beside the library's, on the same input in the same run.

    Attributes:
        stage: what is compared, with its size.
        textbook, protoseg: cost of one item (an image, a step).
        outputs: how far the outputs differ, as measured.
        target: what the ratios are to be, in words; empty without one.
    """

    stage: str
    textbook: Cost
    protoseg: Cost
    outputs: str
    target: str = ""

    @property
    def speed(self) -> float:
        """Processor time of the textbook form over the library's."""
        return self.textbook.core_seconds / self.protoseg.core_seconds

    @property
    def memory(self) -> float:
        """Memory of the textbook form over the library's."""
        return self.textbook.mebibytes / self.protoseg.mebibytes


def cost_of(work: Callable[[], Result], *, repeats: int = 1, items: int = 1) -> tuple[Result, Cost]:
    """Result and cost of ``work``: the least time of ``repeats`` runs, the memory of the first.

    Args:
        work: runs in a forked process; its result must be picklable.
        items: divides the times: the number of images or steps in one run.

    Raises:
        RuntimeError: the work failed; its own error stands before.
    """
    ctypes.CDLL(None).malloc_trim(0)  # memory freed but kept would be used again, and not counted
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, repeats, items, sender))
    process.start()
    sender.close()
    try:
        result, cost = pickle.loads(receiver.recv_bytes())
    except EOFError:
        raise RuntimeError("the measured work failed, see its error above") from None
    finally:
        process.join()
    return result, cost


def costs_of(
    *works: Callable[[], Any], rounds: int, repeats: int = 1, items: int = 1
) -> list[tuple[Any, Cost]]:
    """`cost_of` each of ``works`` in turn, ``rounds`` times: what else runs here meets them all.

    Returns:
        Of each its first result, its least times and its memory in the first round.
    """
    found = [[cost_of(work, repeats=repeats, items=items) for work in works] for _ in range(rounds)]
    return [(runs[0][0], least([cost for _, cost in runs])) for runs in zip(*found, strict=True)]


def least(costs: Sequence[Cost]) -> Cost:
    """The least times, the memory of the first."""
    seconds = min(cost.seconds for cost in costs)
    return Cost(seconds, min(cost.core_seconds for cost in costs), costs[0].mebibytes)


def _measure(work: Callable[[], Any], repeats: int, items: int, sender: Any) -> None:
    before, files = _resident()
    costs = []
    for _ in range(repeats):
        started, processor = time.perf_counter(), _processor()
        result = work()
        seconds = (time.perf_counter() - started) / items
        core_seconds = (_processor() - processor) / items
        # pages of the libraries' code that the fork had not mapped yet are no cost of the work
        costs.append(Cost(seconds, core_seconds, _peak() - before - (_resident()[1] - files)))
    # torch's own pickler shares memory with a process that has ended when its reader looks
    sender.send_bytes(pickle.dumps((result, least(costs))))


def _resident() -> tuple[float, float]:
    """Memory of this process now, and the part of it that maps files, MiB."""
    pages = Path("/proc/self/statm").read_text().split()[1:3]
    resident, files = (int(count) * resource.getpagesize() / MEBIBYTE for count in pages)
    return resident, files


def _peak() -> float:
    """Largest memory so far of this process or, if it is more, of one of its children, MiB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1024


def _processor() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ended = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    tasks = Path("/proc/self/task").glob("*/children")
    return ended + sum(_processor_of(child) for task in tasks for child in task.read_text().split())


def _processor_of(process: str) -> float:
    """Of a child that still runs, such as the server that forks workers, and of its own children.

    Four fields from the 14th on; the second is a name in parentheses, which may have spaces.
    """
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def report(comparisons: list[Comparison]) -> None:
    """Log one block of lines per comparison."""
    line = "  %-9s %10.4f s wall  %10.4f core-seconds  %8.1f MiB"
    for comparison in comparisons:
        LOG.info("%s", comparison.stage)
        for name in ("textbook", "protoseg"):
            cost = getattr(comparison, name)
            LOG.info(line, name, cost.seconds, cost.core_seconds, cost.mebibytes)
        LOG.info("  ratio x%.1f of core-seconds, x%.1f of memory", *_ratios(comparison))
        LOG.info("  outputs: %s", comparison.outputs)
        LOG.info("  target: %s", comparison.target or "none")


def _ratios(comparison: Comparison) -> tuple[float, float]:
    return comparison.speed, comparison.memory


def command(compare: Callable[[], list[Comparison]], description: str) -> None:
    """Command line of one benchmark: logs its comparisons, and writes them with ``--json``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the comparisons to this file")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    comparisons = compare()
    report(comparisons)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in comparisons], indent=2))
