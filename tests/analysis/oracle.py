"""Starvation found the plain way: a loop over a boot's samples in Python. Slow, and simple enough to be seen to be right."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd


def episodes(samples: pd.DataFrame, regime_of: dict[Any, str], floor_bits: int, max_gap_ns: int | None) -> list[tuple[Any, ...]]:
    """The rows that ``starvation`` should give, as tuples."""
    boots: dict[Any, dict[int, tuple[bool, set[str], list[int]]]] = {}
    for row in samples.astype(object).where(samples.notna(), None).itertuples(index=False):
        key = (row.host, row.guest, row.boot_id)
        if key not in regime_of:
            continue
        causes = _causes(row, regime_of[key], floor_bits)
        if causes is None:
            continue
        known = boots.setdefault(key, {}).setdefault(row.t_ns, (False, set(), []))
        bits = [] if row.entropy_avail_bits is None else [row.entropy_avail_bits]
        boots[key][row.t_ns] = (known[0] or bool(causes), known[1] | causes, known[2] + bits)
    found = [(*key, *rest) for key, seen in boots.items() for rest in _of_boot(seen, max_gap_ns)]
    return sorted(found, key=lambda row: (row[0], row[1] or "", row[2], row[3]))


def _causes(row: Any, regime: str, floor_bits: int) -> set[str] | None:
    if regime == "blocking":
        if row.entropy_avail_bits is None and row.random_readable is None:
            return None
        low = row.entropy_avail_bits is not None and row.entropy_avail_bits < floor_bits
        return ({"pool_below_floor"} if low else set()) | ({"random_not_readable"} if row.random_readable is False else set())
    if row.crng_ready is not None:
        return set() if row.crng_ready else {"crng_not_ready"}
    if row.random_readable is not None:
        return set() if row.random_readable else {"random_not_readable"}
    return None


def _of_boot(seen: dict[int, tuple[bool, set[str], list[int]]], max_gap_ns: int | None) -> list[tuple[Any, ...]]:
    times = sorted(seen)
    steps = sorted((b - a).bit_length() - 1 for a, b in itertools.pairwise(times))
    gap_ns = max_gap_ns
    if gap_ns is None and steps:
        gap_ns = 8 * 2 ** (steps[(len(steps) - 1) // 2] + 1)
    found = []
    i = 0
    while i < len(times):
        if not seen[times[i]][0]:
            i += 1
            continue
        j = i
        while j + 1 < len(times) and seen[times[j + 1]][0] and times[j + 1] - times[j] <= gap_ns:
            j += 1
        start = i == 0 or times[i] - times[i - 1] > gap_ns
        end = j == len(times) - 1 or times[j + 1] - times[j] > gap_ns
        causes = set().union(*(seen[t][1] for t in times[i : j + 1]))
        cause = next(c for c in ("crng_not_ready", "random_not_readable", "pool_below_floor") if c in causes)
        bits = [b for t in times[i : j + 1] for b in seen[t][2]]
        censored = {(False, False): "none", (True, False): "start", (False, True): "end", (True, True): "both"}[start, end]
        found.append((times[i], times[j], j - i + 1, min(bits) if bits else None, cause, censored))
        i = j + 1
    return found
