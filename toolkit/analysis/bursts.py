"""Bursts in the arrival times of bytes: found in the data alone, without a limit that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from toolkit.analysis.frames import Frame, gather, groups

__all__ = ["FEWEST_PERIODS", "IRREGULAR", "SERIES", "Numbers", "Series", "burst_starts", "bursts", "reads_of", "series_of"]

#: Fewer whole periods tell no rate.
FEWEST_PERIODS = 3
#: A pause is at least so many times as long as the longest gap that is none.
_BREAK = 3.0
#: An interval between bursts that is off by more than this share of the usual one is irregular.
IRREGULAR = 0.5
#: Shorter gaps are taken for this: no clock resolves them, and their ratios would mean nothing.
_LEAST_GAP_NS = 1000.0

#: What one series of reads is: of one source, in one boot and run, with one block size.
SERIES = ["run_id", "host", "guest", "boot_id", "source", "block_bytes"]

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Reads of one series that brought bytes, in the order they ended; ``ended_ns`` is when the last of all reads did."""

    arrival_ns: npt.NDArray[np.int64]
    size: Numbers
    first_call_ns: int
    ended_ns: int
    reads: int
    failed: int
    block: int


def bursts(source_reads: Frame, source: str = "/dev/hwrng") -> pd.DataFrame:
    """The bursts in which bytes came.

    Parameters
    ----------
    source_reads : DataFrame of pandas or Dask
        Table ``source_reads``.
    source : str
        The source to look at.

    Returns
    -------
    pandas.DataFrame
        A row a burst: ``run_id``, ``host``, ``guest``, ``boot_id``, ``source``, ``block_bytes``; ``burst`` from 0; ``begin_s`` and
        ``end_s``, its first and last arrival since the series' first call; ``read_bytes`` and ``reads``. Where no pauses stand out
        each read is a burst of its own.

    Raises
    ------
    TableError
        If a column is missing.
    """
    rows = reads_of(source_reads, source)
    tables = []
    for key, group in groups(rows, SERIES):
        series = series_of(group, int(key["block_bytes"]))
        if not series.size.size:
            continue
        starts = burst_starts(series.arrival_ns)
        ends = np.append(starts[1:], series.size.size) - 1
        since = (series.arrival_ns - series.first_call_ns) / 1e9
        tables.append(
            pd.DataFrame(
                {
                    **key,
                    "burst": np.arange(starts.size),
                    "begin_s": since[starts],
                    "end_s": since[ends],
                    "read_bytes": np.add.reduceat(series.size, starts).astype(np.int64),
                    "reads": ends - starts + 1,
                }
            )
        )
    columns = [*SERIES, "burst", "begin_s", "end_s", "read_bytes", "reads"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def reads_of(source_reads: Frame, source: str) -> pd.DataFrame:
    """The reads of a source."""
    rows = gather(source_reads, [*SERIES, "t_ns", "read_bytes", "wait_ns", "errno"], "rates")
    return rows[rows["source"] == source]


def series_of(group: pd.DataFrame, block: int) -> Series:
    """One series of reads, of one block size."""
    wait = group["wait_ns"].astype("Int64").fillna(0).astype("int64")
    ended = group["t_ns"].astype("int64") + wait
    came = group["read_bytes"].astype("Float64").astype("float64")
    good = (group["errno"].isna() & (came > 0) & group["wait_ns"].notna()).to_numpy()
    order = np.argsort(ended[good].to_numpy(), kind="stable")
    return Series(
        arrival_ns=np.asarray(ended[good], dtype=np.int64)[order],
        size=np.asarray(came[good], dtype=np.float64)[order],
        first_call_ns=int(group["t_ns"].min()),
        ended_ns=int(ended.max()),
        reads=len(group),
        failed=int((~good).sum()),
        block=block,
    )


def burst_starts(arrival_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each burst begins: the border between pauses and gaps that leaves the beginnings most regular."""
    every = np.arange(arrival_ns.size)
    gaps = np.maximum(np.diff(arrival_ns).astype(np.float64), _LEAST_GAP_NS)
    if gaps.size < FEWEST_PERIODS:
        return every
    ordered = np.sort(gaps)
    borders = np.flatnonzero(ordered[1:] >= _BREAK * ordered[:-1])
    choices = [every]
    for border in borders:
        between = math.sqrt(ordered[border] * ordered[border + 1])
        starts = np.concatenate(([0], np.flatnonzero(gaps > between) + 1))
        if starts.size >= FEWEST_PERIODS:
            choices.append(starts)
    return min(choices, key=lambda starts: _irregularity(np.diff(arrival_ns[starts]).astype(np.float64)))


def _irregularity(intervals: Numbers) -> float:
    """The share of the intervals, or of the time in them, that is not near the interval in which half of the time passes."""
    ordered = np.sort(intervals)
    passed = np.cumsum(ordered)
    usual = ordered[np.searchsorted(passed, passed[-1] / 2)]
    if not usual:
        return 1.0
    off = np.abs(intervals / usual - 1) > IRREGULAR
    found = float(max(off.mean(), intervals[off].sum() / passed[-1]))
    return found if intervals.size >= FEWEST_PERIODS else max(found, IRREGULAR)  # of two alike little can be concluded
