"""``watch`` at 1 kHz: the ticks that were missed, that they show as gaps, and what it costs; beside a program in C (``ticks.c``).

On a virtual machine the hypervisor takes the processor away now and then, and whoever sleeps there misses ticks: what the program
in C misses in the same minutes is what the machine itself misses.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import toolkit
from tests.benchmarks.figures import Figure, compared, in_turn, within

DURATION_S = 10.0
INTERVAL_S = 0.001
DUE = round(DURATION_S / INTERVAL_S)


class Watched(NamedTuple):
    """One watch: the part of its ticks that it missed, of those that no look and no gap accounts for, and of a core; in percent."""

    missed: float
    unseen: float
    busy: float


def figures() -> Iterator[Figure]:
    """Ten seconds at a time, with the CRNG's state and the pool."""
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder, "ticks")
        subprocess.run(["cc", "-O2", "-Wall", "-o", peer, Path(__file__).with_name("ticks.c")], check=True)
        pairs: list[tuple[Watched, Watched]] = in_turn([_ours, lambda: _peers(peer)])
    ours = [mine for mine, _ in pairs]
    yield within("watch at 1 kHz: ticks missed", [each.missed for each in ours], 1.0, "%")
    beside = [(mine.missed, theirs.missed) for mine, theirs in pairs]
    yield compared("watch at 1 kHz: ticks missed", "C", beside, "%", by="difference", goal=1.0)
    yield within("watch at 1 kHz: ticks that no look and no gap accounts for", [each.unseen for each in ours], 0.1, "%")
    yield within("watch at 1 kHz: of a core", [each.busy for each in ours], 3.0, "%")
    yield compared("watch at 1 kHz: of a core", "C", [(mine.busy, theirs.busy) for mine, theirs in pairs], "%")


def _ours() -> Watched:
    before = _cpu_s()
    samples = toolkit.watch(DURATION_S, INTERVAL_S)
    used_s = _cpu_s() - before
    assert samples[["entropy_avail_bits", "crng_ready"]].notna().all(axis=None)
    t_ns = samples["t_ns"].to_numpy()
    # By the times alone: where they span all ticks, every one without a look lies in a gap between two.
    spanned = round((t_ns[-1] - t_ns[0]) / (INTERVAL_S * 1e9)) + 1
    return Watched(_percent(DUE - len(samples)), _percent(abs(DUE - spanned)), 100 * used_s / DURATION_S)


def _peers(peer: Path) -> Watched:
    done = subprocess.run([peer, str(DUE), str(round(INTERVAL_S * 1e9))], check=True, capture_output=True, text=True)
    missed, used_s = done.stdout.split()
    return Watched(_percent(int(missed)), 0.0, 100 * float(used_s) / DURATION_S)


def _percent(ticks: int) -> float:
    return 100 * ticks / DUE


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
