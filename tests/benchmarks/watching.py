"""``watch`` at 1 kHz: the ticks that were missed, that they show as gaps, and what it costs."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import numpy as np

import toolkit
from tests.benchmarks.figures import ROUNDS, Figure, within

DURATION_S = 10.0
INTERVAL_S = 0.001


def figures() -> Iterator[Figure]:
    """Ten seconds at a time, with the CRNG's state and the pool."""
    missed, busy, unseen = [], [], []
    for number in range(ROUNDS + 1):
        before = _cpu_s()
        samples = toolkit.watch(DURATION_S, INTERVAL_S)
        used_s = _cpu_s() - before
        if not number:
            continue
        assert samples[["entropy_avail_bits", "crng_ready"]].notna().all(axis=None)
        due = round(DURATION_S / INTERVAL_S)
        missed.append(100 * (due - len(samples)) / due)
        unseen.append(100 * abs(due - len(samples) - _gaps(samples["t_ns"].to_numpy())) / due)
        busy.append(100 * used_s / DURATION_S)
    yield within("watch at 1 kHz: ticks missed", missed, 1.0, "%")
    yield within("watch at 1 kHz: missed and not visible as gaps", unseen, 0.1, "%")
    yield within("watch at 1 kHz: of a core", busy, 3.0, "%")


def _gaps(t_ns: np.ndarray) -> int:
    """The ticks without a look, by the times alone: a look is less than an interval after its tick, the least late one is at it."""
    interval_ns = round(INTERVAL_S * 1e9)
    since_ns = t_ns - t_ns[0]
    # How far each look lies from the tick nearest to it, counted from the first look; the earliest shows where the ticks are.
    early_ns = ((since_ns + interval_ns // 2) % interval_ns - interval_ns // 2).min()
    ticks = (since_ns - early_ns) // interval_ns
    return round(DURATION_S / INTERVAL_S) - len(np.unique(ticks))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
