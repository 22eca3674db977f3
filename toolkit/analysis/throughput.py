"""Bytes a second of random sources and of allocation methods, as medians over repeats. What a repeat is, is said here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from toolkit.analysis.frames import Frame, check_columns, column_names, gather
from toolkit.analysis.stats import FEWEST, median_interval, table_of
from toolkit.errors import TableError

__all__ = ["throughput"]

#: A series of reads is split into so many blocks of equal waiting time.
BLOCKS = 10

_READS_BY = ("host", "guest", "source", "block_bytes")
_ALLOCATIONS_BY = ("host", "filesystem", "method", "size_bytes")


def throughput(frame: Frame, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Bytes a second, the median of each group with its interval.

    Parameters
    ----------
    frame : DataFrame of pandas or Dask
        ``source_reads`` or ``allocations``.
    by : str or sequence of str, optional
        The columns to group by; by default host, guest, source and block_bytes, or host, filesystem, method and size_bytes.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``n`` (how many repeats the median is of), ``unit`` (what a repeat is),
        ``reads`` or ``allocations`` (rows), ``failed`` (those with an errno), ``bytes_per_second`` (NaN where none was measured),
        and its 95 % interval, ``low`` and ``high`` (NaN of fewer than three repeats).

    Raises
    ------
    TableError
        If the frame is neither table, or lacks a column of ``by``.

    Notes
    -----
    Of allocations the repeat is the allocation: ``size_bytes / allocate_ns``, failed ones apart.

    Reads that follow one another are no independent repeats: a source with a limit gives its bytes in a burst and is silent until
    the next period, so the median of single reads tells the speed of the burst. Where a group has three runs or more, a run is the
    repeat (``unit`` is "run"): the bytes that came over the time waited. With fewer runs each run's reads of one source and
    block size are split into ten blocks of equal waiting time, each ending with the read that fills it (``unit`` is "block"): the
    method of batch means (A. M. Law, Simulation Modeling and Analysis, 2015, section 9.5.3). A block so holds a whole burst and
    the wait after it unless the burst alone takes a tenth of the series; it tells the spread within a run, not that between runs.
    The time that failed reads waited counts, and the bytes that they did not bring do not.

    Examples
    --------
    >>> reads = pd.DataFrame({
    ...     "run_id": ["a", "b", "c", "c"], "host": "h", "guest": None, "boot_id": "b", "t_ns": [0, 0, 0, 9],
    ...     "source": "/dev/hwrng", "block_bytes": 64, "read_bytes": [64, 64, 64, None],
    ...     "wait_ns": [10**6, 2 * 10**6, 10**6, 10**6], "errno": [None, None, None, 11],
    ... })
    >>> throughput(reads, by="source")
           source  n unit  reads  failed  bytes_per_second      low     high
    0  /dev/hwrng  3  run      4       1           32000.0  32000.0  64000.0
    """
    check_columns(frame, (), "throughput")
    if "wait_ns" in frame.columns:
        return _of_reads(frame, column_names(by or _READS_BY))
    if "allocate_ns" in frame.columns:
        return _of_allocations(frame, column_names(by or _ALLOCATIONS_BY))
    raise TableError(
        "throughput needs the column wait_ns or allocate_ns, and the frame has neither", "Give source_reads or allocations."
    )


def _of_allocations(frame: Frame, by: list[str]) -> pd.DataFrame:
    rows = gather(frame, [*by, "size_bytes", "allocate_ns", "errno"], "throughput of allocations")

    def measure(group: pd.DataFrame) -> dict[str, object]:
        good = group[group["errno"].isna()]
        found = median_interval(_rate(_numbers(good["size_bytes"]), _numbers(good["allocate_ns"])))
        return {
            "n": found.n,
            "unit": "allocation",
            "allocations": len(group),
            "failed": len(group) - len(good),
            "bytes_per_second": found.median,
            "low": found.low,
            "high": found.high,
        }

    return table_of(rows, by, ["n", "unit", "allocations", "failed", "bytes_per_second", "low", "high"], measure)


def _of_reads(frame: Frame, by: list[str]) -> pd.DataFrame:
    series = ["run_id", "host", "guest", "boot_id", "source", "block_bytes"]
    rows = gather(frame, [*by, *series, "t_ns", "read_bytes", "wait_ns", "errno"], "throughput of reads")

    def measure(group: pd.DataFrame) -> dict[str, object]:
        failed = group["errno"].notna()
        timed = group[group["wait_ns"].notna()]
        came = _numbers(timed["read_bytes"].mask(failed[timed.index])).fillna(0.0)
        timed = timed.assign(came=came, waited_ns=_numbers(timed["wait_ns"]))
        runs = timed.groupby(["run_id", "host", "guest", "boot_id"], dropna=False)[["came", "waited_ns"]].sum()
        if len(runs) >= FEWEST:
            unit, rates = "run", _rate(runs["came"], runs["waited_ns"])
        else:
            parts = [_blocks(part.sort_values("t_ns")) for _, part in timed.groupby(series, dropna=False)]
            unit, rates = "block", pd.concat(parts) if parts else pd.Series(dtype="float64")
        found = median_interval(rates)
        return {
            "n": found.n,
            "unit": unit,
            "reads": len(group),
            "failed": int(failed.sum()),
            "bytes_per_second": found.median,
            "low": found.low,
            "high": found.high,
        }

    return table_of(rows, by, ["n", "unit", "reads", "failed", "bytes_per_second", "low", "high"], measure)


def _blocks(reads: pd.DataFrame) -> pd.Series[float]:
    """The rate of each block of a series of reads in time."""
    waited, came = reads["waited_ns"].to_numpy(), reads["came"].to_numpy()
    ends = _ends(waited, waited.sum() / BLOCKS)
    begins = np.concatenate(([0], ends[:-1]))
    return _rate(pd.Series(np.add.reduceat(came, begins)), pd.Series(np.add.reduceat(waited, begins)))


def _ends(waited: npt.NDArray[np.float64], target: float) -> npt.NDArray[np.int64]:
    """Where each block ends: after the read that brings its waiting to the target. A rest of under half of it joins the last."""
    reached = np.cumsum(waited)
    ends: list[int] = []
    begun = 0.0
    while (end := int(np.searchsorted(reached, begun + target * (1 - 1e-9)))) < waited.size:
        ends.append(end + 1)
        begun = reached[end]
        if end + 1 == waited.size:
            return np.array(ends)
    if ends and reached[-1] - begun < target / 2:
        ends[-1] = waited.size
    else:
        ends.append(waited.size)
    return np.array(ends)


def _numbers(column: pd.Series[int]) -> pd.Series[float]:
    return column.astype("Float64").astype("float64")


def _rate(count_bytes: pd.Series[float], time_ns: pd.Series[float]) -> pd.Series[float]:
    """Bytes a second; NaN where no time passed, which no clock can have measured."""
    return count_bytes / time_ns.where(time_ns > 0) * 1e9
