"""Readers at once: who waited for how long, and whether guests that share a source of the host get equal shares of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from toolkit.analysis.frames import Frame, column_names, gather
from toolkit.analysis.stats import median_interval, table_of
from toolkit.analysis.survival import Times, quantile
from toolkit.units import duration_text

__all__ = ["DEVICE", "OWN_PACE", "SHARED", "fairness", "jain", "shares", "waits"]

#: The scenario in which guests share a source of the host.
SHARED = "fairness"
#: Guests with another virtio-rng are never pooled.
DEVICE = ("virtio_rng_backend", "virtio_rng_max_bytes", "virtio_rng_period_ms")
#: A reader that spends less of its time in its reads goes at a pace of its own.
OWN_PACE = 0.5
_P99 = 0.99
_READER = ["run_id", "host", "guest", "boot_id", "scenario", "guests_at_once", "readers_at_once", "repeat", "reader", "source"]
_TRIAL = ["run_id", "host", "source", "guests_at_once", "repeat"]
_NEEDED = (*_READER, "t_ns", "read_bytes", "wait_ns", "wait_censored", "errno")
_WAITS = [
    "repeats", "reads", "failed", "waiting", "read_bytes", "bytes_per_second", "low", "high", "waiting_fraction",
    "wait_median_s", "wait_p99_s", "longest_wait_s", "longest_open", "wait",
]  # fmt: skip
_FAIR = [
    "repeats", "incomplete", "jain", "jain_low", "jain_high", "smallest_share", "greatest_share",
    "each_bytes_per_second", "all_bytes_per_second", "all_bytes_per_second_low", "all_bytes_per_second_high",
]  # fmt: skip


def waits(
    drain_reads: Frame, by: str | Sequence[str] = (*DEVICE, "scenario", "guests_at_once", "readers_at_once", "source", "reader")
) -> pd.DataFrame:
    """How long the reads of each of several readers waited, and the bytes a second that it had.

    Parameters
    ----------
    drain_reads : DataFrame of pandas or Dask
        Table ``drain_reads``.
    by : str or sequence of str
        The columns to group by.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``repeats`` (readers of one boot and repeat), ``reads``, of which ``failed`` or
        were still ``waiting`` at the end; ``read_bytes``; ``bytes_per_second``, the median over repeats of a reader's bytes by
        its time, with the 95 % interval ``low`` and ``high`` (NaN of fewer than three); ``waiting_fraction``, the part of its time
        that a reader spent in its reads: where it is small its rate is its own pace, and says nothing of the source;
        ``wait_median_s`` and ``wait_p99_s``, the
        least time by which that share of the reads had returned, null where it had not; ``longest_wait_s``, and ``longest_open``:
        that read had not returned, and waited longer than that; and ``wait``: the same in words.

    Raises
    ------
    TableError
        If a column is missing.

    Notes
    -----
    A read that had not returned is censored (see :mod:`toolkit.analysis.survival`). Reads of one reader follow one another and are
    no independent repeats, so their waits have no interval.

    Examples
    --------
    >>> reads = pd.DataFrame({
    ...     "run_id": "r", "host": "h", "guest": "g", "boot_id": "b", "scenario": "readers", "guests_at_once": 1,
    ...     "readers_at_once": 1, "repeat": 0, "reader": "a", "source": "/dev/hwrng", "t_ns": [0, 10**9, 2 * 10**9],
    ...     "read_bytes": [64, 64, None], "wait_ns": [10**9, 10**9, 8 * 10**9], "errno": None,
    ...     "wait_censored": [False, False, True],
    ... })
    >>> waits(reads, by="source")[["source", "reads", "waiting", "bytes_per_second"]]
           source  reads  waiting  bytes_per_second
    0  /dev/hwrng      3        1              12.8
    >>> waits(reads, by="source")["wait"].item()
    '1 s; 99 %: not seen; longest > 8 s'
    """
    names = column_names(by)
    rows = gather(drain_reads, [*names, *_NEEDED], "waits")

    def measure(group: pd.DataFrame) -> dict[str, object]:
        told = _rates(group)
        found = median_interval(told["bytes_per_second"])
        wait_s = _seconds(group["wait_ns"])
        seen = ~group["wait_censored"].astype("boolean").fillna(value=False).astype(bool)
        times = Times.of(wait_s.where(group["errno"].isna()), seen)
        middle, late = quantile(times, 0.5), quantile(times, _P99)
        longest = int(np.argmax(times.seconds)) if times.seconds.size else None
        longest_s = math.nan if longest is None else float(times.seconds[longest])
        is_open: object = pd.NA if longest is None else not bool(times.seen[times.seconds == longest_s].all())
        return {
            "repeats": len(told),
            "reads": len(group),
            "failed": int(group["errno"].notna().sum()),
            "waiting": int((~seen).sum()),
            "read_bytes": int(_bytes(group).sum()),
            "bytes_per_second": found.median,
            "low": found.low,
            "high": found.high,
            "waiting_fraction": _fraction(wait_s.sum(), told["took_s"].sum()),
            "wait_median_s": middle,
            "wait_p99_s": late,
            "longest_wait_s": longest_s,
            "longest_open": is_open,
            "wait": _said(middle, late, longest_s, is_open=is_open is True),
        }

    return table_of(rows, names, _WAITS, measure).astype({"longest_open": "boolean", "wait": "str"})


def fairness(drain_reads: Frame, by: str | Sequence[str] = (*DEVICE, "source", "guests_at_once")) -> pd.DataFrame:
    """Whether guests that read a shared source at the same time got equal shares of it.

    Parameters
    ----------
    drain_reads : DataFrame of pandas or Dask
        Table ``drain_reads``; the rows of the scenario "fairness" are looked at.
    by : str or sequence of str
        The columns to group by; ``guests_at_once`` should be one of them.

    Returns
    -------
    pandas.DataFrame
        A row a group: the columns of ``by``, then ``repeats``; ``incomplete`` ones, in which a guest has no row and which are
        left out; ``jain``, the median over repeats of Jain's index, with its 95 % interval ``jain_low`` and ``jain_high`` (NaN of
        fewer than three); ``smallest_share`` and ``greatest_share`` of any guest in any repeat, where equal is one by the number
        of guests; ``each_bytes_per_second``, the median of a guest, and ``all_bytes_per_second`` of all together, with
        ``all_bytes_per_second_low`` and ``all_bytes_per_second_high``.

    Raises
    ------
    TableError
        If a column is missing.

    Notes
    -----
    Jain's index of shares x of n guests is (Σx)² / (n Σx²): 1 where all are equal, 1/n where one has all (R. Jain, D. Chiu and
    W. Hawe, A Quantitative Measure of Fairness and Discrimination for Resource Allocation in Shared Computer Systems, DEC Research
    Report TR-301, 1984). A guest that got nothing counts with nothing.

    Examples
    --------
    >>> jain([1.0, 1.0]), jain([1.0, 0.0]), jain([3.0, 1.0])
    (1.0, 0.5, 0.8)
    """
    names = column_names(by)
    rows = gather(drain_reads, [*names, *_NEEDED], "fairness")
    rows = rows[rows["scenario"] == SHARED]
    of_guests = shares(rows)
    trials = of_guests.groupby(_TRIAL, dropna=False)
    per_trial = trials.agg(
        guests=("guest", "size"),
        jain=("bytes_per_second", jain),
        smallest=("share", "min"),
        greatest=("share", "max"),
        each=("bytes_per_second", "median"),
        together=("bytes_per_second", "sum"),
    ).reset_index()
    others = [name for name in names if name not in _TRIAL]
    if others:
        per_trial = per_trial.merge(rows[[*_TRIAL, *others]].drop_duplicates(), on=_TRIAL)

    def measure(group: pd.DataFrame) -> dict[str, object]:
        whole = group[group["guests"] == group["guests_at_once"]]
        index, together = median_interval(whole["jain"]), median_interval(whole["together"])
        return {
            "repeats": len(whole),
            "incomplete": len(group) - len(whole),
            "jain": index.median,
            "jain_low": index.low,
            "jain_high": index.high,
            "smallest_share": whole["smallest"].min(),
            "greatest_share": whole["greatest"].max(),
            "each_bytes_per_second": whole["each"].median(),
            "all_bytes_per_second": together.median,
            "all_bytes_per_second_low": together.low,
            "all_bytes_per_second_high": together.high,
        }

    return table_of(per_trial, names, _FAIR, measure)


def shares(drain_reads: pd.DataFrame) -> pd.DataFrame:
    """Of each guest in each repeat the bytes a second that its readers had, and its share of all guests' in that repeat.

    Returns
    -------
    pandas.DataFrame
        ``run_id``, ``host``, ``source``, ``guests_at_once``, ``repeat``, ``guest``, ``bytes_per_second``, ``share`` (null where no
        guest got a byte).
    """
    keys = [*_TRIAL, "guest"]
    found = _rates(drain_reads).groupby(keys, dropna=False)["bytes_per_second"].sum().reset_index()
    total = found.groupby(_TRIAL, dropna=False)["bytes_per_second"].transform("sum")
    return found.assign(share=found["bytes_per_second"] / total.where(total > 0))


def jain(rates: Sequence[float] | pd.Series) -> float:
    """Jain's index of fairness; NaN where nobody got anything. See :func:`fairness`."""
    values = np.asarray(rates, dtype=float)
    squares = float((values**2).sum())
    return math.nan if not squares else float(values.sum() ** 2 / (values.size * squares))


def _rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each reader in each repeat its bytes by the time from its first call to the end of its last read."""
    ended = rows["t_ns"].astype("int64") + rows["wait_ns"].astype("Int64").fillna(0).astype("int64")
    told = rows.assign(ended=ended, came=_bytes(rows), begun=rows["t_ns"].astype("int64")).groupby(_READER, dropna=False)
    found = told.agg(came=("came", "sum"), begun=("begun", "min"), ended=("ended", "max")).reset_index()
    took_s = (found["ended"] - found["begun"]) / 1e9
    return found.assign(took_s=took_s, bytes_per_second=found["came"] / took_s.where(took_s > 0))


def _fraction(waited_s: float, took_s: float) -> float:
    return min(waited_s / took_s, 1.0) if took_s > 0 else math.nan


def _bytes(rows: pd.DataFrame) -> pd.Series:
    return rows["read_bytes"].astype("Float64").astype("float64").where(rows["errno"].isna()).fillna(0.0)


def _seconds(wait_ns: pd.Series) -> pd.Series:
    return wait_ns.astype("Float64").astype("float64") / 1e9


def _said(middle: float, late: float, longest: float, *, is_open: bool) -> str:
    if math.isnan(longest):
        return "not known"
    half = "half not seen to return" if math.isnan(middle) else duration_text(middle)
    most = "not seen" if math.isnan(late) else duration_text(late)
    return f"{half}; 99 %: {most}; longest {'> ' if is_open else ''}{duration_text(longest)}"
