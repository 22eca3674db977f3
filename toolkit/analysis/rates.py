"""What a source behind a limit gave, against the limit: bursts found in the arrival times of bytes, and the rate between them.

QEMU's virtio-rng fills a quota of ``max-bytes`` once a period and carries nothing over, so the bytes come in bursts. The mean of a
stretch that begins or ends within one is wrong by up to a burst; from a burst's beginning to another's it is right. How bytes come
from any source, limited or not, is :mod:`toolkit.analysis.throughput`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from toolkit.analysis.bursts import FEWEST_PERIODS, IRREGULAR, SERIES, Numbers, Series, burst_starts, bursts, reads_of, series_of
from toolkit.analysis.frames import Frame, gather, groups
from toolkit.analysis.stats import FEWEST, bootstrap_interval
from toolkit.units import duration_text

__all__ = ["FEWEST_PERIODS", "TOLERANCE", "bursts", "rates"]

#: The measured rate may be off by so much, below and above.
TOLERANCE = 0.05
#: Without a byte for so many of the times that a read should take at the limit, a source has stalled.
_STALLED = 2.0
#: Pauses are a limit's where bursts have the bytes of its quota, or the distance of its period, to within this share.
_LIKE_THE_LIMIT = 0.25
#: What may have lain ready before the first read, in the driver and in its kernel.
_READY_BYTES = 128
#: Reads of a source without a limit are split into so many stretches, to tell how its rate varies.
_STRETCHES = 10

_LIMIT = ["virtio_rng_backend", "virtio_rng_max_bytes", "virtio_rng_period_ms"]
_FOUND = [
    "reads", "failed", "read_bytes", "bursts", "burst_bytes", "burst_s", "period_s", "configured_bytes_per_second",
    "bytes_per_second", "low", "high", "ratio", "ratio_low", "ratio_high", "resolution_fraction", "holds", "why",
]  # fmt: skip


@dataclass(frozen=True)
class _Limit:
    backend: Any
    max_bytes: int | None
    period_ms: int | None

    @property
    def configured(self) -> float:
        """Bytes a second; NaN where there is no limit, or none is known."""
        return math.nan if not self.max_bytes or not self.period_ms else self.max_bytes / self.period_ms * 1000

    def read_s(self, block: int) -> float:
        """The time between the ends of two reads that the limit explains: a period, or the periods that a block takes."""
        if not self.max_bytes or not self.period_ms:
            return math.nan
        return self.period_ms / 1000 * max(1, math.ceil(block / self.max_bytes))


def rates(source_reads: Frame, rng_state: Frame, source: str = "/dev/hwrng") -> pd.DataFrame:
    """Bytes a second that a source gave, against the limit of the guest's virtio-rng.

    Parameters
    ----------
    source_reads : DataFrame of pandas or Dask
        Table ``source_reads``; the bytes of a read arrive at its end.
    rng_state : DataFrame of pandas or Dask
        Table ``rng_state``, with the limit of each boot: that of the same run where it is there.
    source : str
        The source to look at.

    Returns
    -------
    pandas.DataFrame
        A row for each series of reads of one block size in one boot and run: ``run_id``, ``host``, ``guest``, ``boot_id``,
        ``source``, ``block_bytes``; the limit; ``reads``, of which ``failed`` or had not returned; ``read_bytes``; ``bursts``,
        the median ``burst_bytes`` and ``burst_s`` of a burst and ``period_s`` from one's beginning to the next;
        ``configured_bytes_per_second`` and what was measured, ``bytes_per_second`` with its 95 % interval ``low`` and ``high``
        over periods; ``ratio`` of the two with ``ratio_low`` and ``ratio_high``; ``resolution_fraction``, how much of the bytes
        whole reads cannot tell; ``holds``: within 5 % of the limit, below and above, null where it cannot be told; and ``why`` it
        does not or cannot.

    Raises
    ------
    TableError
        If a column is missing.

    Notes
    -----
    Bursts are found in the arrivals alone: of all gaps at least three times as long as the next shorter one, that is taken for the
    border between pauses and gaps which leaves the intervals between the bursts' beginnings most regular; each read may be a burst.
    The rate is the bytes of all bursts but the last over the time from the first one's beginning to the last one's, of at least
    three periods; of fewer, where more came than the limit lets come in that time. Where no pause stands out between reads smaller
    than the quota the limit was not reached, and a lower rate tells nothing of it: ``holds`` is null then. Nor was it where pauses
    are not the limit's, as on a busy machine that stops a reader now and then: bursts have neither the bytes of its quota nor the
    distance of its period, within a quarter. A first burst that is of another size than the others, because bytes lay ready or the
    quota was in use, is left out. Where no limit is known the rate is all bytes over all time.

    Examples
    --------
    >>> reads = pd.DataFrame({
    ...     "run_id": "r", "host": "h", "guest": "g", "boot_id": "b", "source": "/dev/hwrng", "block_bytes": 8, "read_bytes": 8,
    ...     "t_ns": [0, 10**4, 2 * 10**4, 10**9 + 10**4, 2 * 10**9, 2 * 10**9 + 10**4, 3 * 10**9, 3 * 10**9 + 10**4],
    ...     "wait_ns": [10**4, 10**4, 10**9 - 10**4, 10**4, 10**4, 10**4, 10**4, 10**4], "errno": None,
    ... })
    >>> state = pd.DataFrame({
    ...     "run_id": ["r"], "host": "h", "guest": "g", "boot_id": "b", "virtio_rng_backend": "rng-random",
    ...     "virtio_rng_max_bytes": 16, "virtio_rng_period_ms": 1000,
    ... })
    >>> rates(reads, state)[["bursts", "burst_bytes", "configured_bytes_per_second", "bytes_per_second", "holds"]]
       bursts  burst_bytes  configured_bytes_per_second  bytes_per_second  holds
    0       4         16.0                         16.0              16.0   True
    """
    rows = reads_of(source_reads, source)
    states = gather(rng_state, ["run_id", "host", "guest", "boot_id", *_LIMIT], "the limits of rates")
    found = []
    for key, group in groups(rows, SERIES):
        limit = _limit(states, key)
        limits = dict(zip(_LIMIT, (limit.backend, limit.max_bytes, limit.period_ms), strict=True))
        found.append({**key, **limits, **_measure(series_of(group, int(key["block_bytes"])), limit)})
    table = pd.DataFrame(found, columns=[*SERIES, *_LIMIT, *_FOUND])
    whole = dict.fromkeys(["reads", "failed", "bursts", "read_bytes", "virtio_rng_max_bytes", "virtio_rng_period_ms"], "Int64")
    return table.astype({name: rows[name].dtype for name in SERIES}).astype({**whole, "holds": "boolean", "why": "str"})


def _limit(states: pd.DataFrame, key: dict[str, Any]) -> _Limit:
    same_guest = states["guest"].isna() if pd.isna(key["guest"]) else states["guest"] == key["guest"]
    of_boot = states[(states["host"] == key["host"]) & same_guest & (states["boot_id"] == key["boot_id"])]
    of_run = of_boot[of_boot["run_id"] == key["run_id"]]
    chosen = (of_run if len(of_run) else of_boot)[_LIMIT].tail(1)
    if chosen.empty:
        return _Limit(None, None, None)
    backend, size, period = chosen.iloc[0]
    return _Limit(None if pd.isna(backend) else backend, *(None if pd.isna(value) else int(value) for value in (size, period)))


def _measure(series: Series, limit: _Limit) -> dict[str, object]:
    known: dict[str, object] = {
        "reads": series.reads,
        "failed": series.failed,
        "read_bytes": int(series.size.sum()),
        "configured_bytes_per_second": limit.configured,
        "holds": pd.NA,
    }
    if not series.size.size:
        return {**known, **_nothing_came(series, limit)}
    if math.isnan(limit.configured):
        return {**known, **_unlimited(series, limit)}
    starts = burst_starts(series.arrival_ns)
    begins = series.arrival_ns[starts].astype(np.float64) / 1e9
    count = np.add.reduceat(series.size, starts)
    ends = series.arrival_ns[np.append(starts[1:], series.size.size) - 1] / 1e9
    first = 1 if _differs(count, begins, series.block, limit) else 0
    took, came = np.diff(begins[first:]), count[first:-1]
    known |= {
        "bursts": starts.size,
        "burst_bytes": float(np.median(came)) if came.size else math.nan,
        "burst_s": float(np.median((ends - begins)[first:-1])) if came.size else math.nan,
        "period_s": float(np.median(took)) if took.size else math.nan,
    }
    silent_s = (series.ended_ns - int(series.arrival_ns[-1])) / 1e9
    stalled = silent_s > _STALLED * max(limit.read_s(series.block), float(np.median(took)) if took.size else 0.0)
    if stalled:  # what it did not give counts too
        took, came = np.append(took, series.ended_ns / 1e9 - begins[-1]), count[first:]
    elif not _exceeds(took, came, limit, first) and (lacking := _too_short(took, limit, starts.size, first)) is not None:
        return {**known, "why": lacking}
    paused = _paused(took, came, limit, series, starts.size)
    return {**known, **_against(took, came, limit, series, silent_s if stalled else None, paused=paused, settled=first > 0)}


def _nothing_came(series: Series, limit: _Limit) -> dict[str, object]:
    waited_s = (series.ended_ns - series.first_call_ns) / 1e9
    if math.isnan(limit.configured) or waited_s < FEWEST_PERIODS * limit.read_s(series.block):
        return {"why": f"no read gave a byte in {duration_text(waited_s)}"}
    why = f"stalled: it gave nothing in {duration_text(waited_s)}"
    return {"bursts": 0, "bytes_per_second": 0.0, "ratio": 0.0, "holds": False, "why": why}


def _unlimited(series: Series, limit: _Limit) -> dict[str, object]:
    parts = np.array_split(np.arange(series.size.size), min(_STRETCHES, series.size.size))
    ends = np.array([series.arrival_ns[part[-1]] for part in parts], dtype=np.int64)
    ends[-1] = series.ended_ns
    took = np.diff(np.concatenate(([series.first_call_ns], ends))) / 1e9
    came = np.array([series.size[part].sum() for part in parts])
    rate, low, high = _with_interval(came, took)
    why = "no limit is known of it" if limit.backend is None else "it has no limit"
    return {"bytes_per_second": rate, "low": low, "high": high, "why": why}


def _differs(count: Numbers, begins: Numbers, block: int, limit: _Limit) -> bool:
    """Whether the first burst is to be left out: bytes lay ready before it, or the quota was in use, or that cannot be excluded.

    It is of another size than those that follow, or came at another distance. Where a read takes several periods, neither may show.
    Where few bursts are left without it, it is left out for a size that is off by more than a read.
    """
    if count.size <= FEWEST_PERIODS:
        return False
    usual, took = float(np.median(count[1:-1])), np.diff(begins)
    if count.size > FEWEST_PERIODS + 1 and (block > (limit.max_bytes or 0) or count[0] != usual):
        return True
    return bool(abs(count[0] - usual) > block or abs(took[0] / np.median(took[1:]) - 1) > IRREGULAR / 2)


def _too_short(took: Numbers, limit: _Limit, bursts: int, first: int) -> str | None:
    whole_s = FEWEST_PERIODS * float(limit.period_ms or 0) / 1000
    if took.size >= FEWEST_PERIODS and took.sum() >= (1 - 2 * TOLERANCE) * whole_s:
        return None
    without = ", the first of another size" if first else ""
    needed = f"at least {FEWEST_PERIODS} whole periods of {duration_text(whole_s / FEWEST_PERIODS)} are needed"
    return f"{bursts} bursts in {duration_text(float(took.sum()))}{without}: {needed}"


def _exceeds(took: Numbers, came: Numbers, limit: _Limit, first: int) -> bool:
    """Whether more came than the limit lets come in that time: bursts come sooner than its periods, so fewer periods tell."""
    if took.size < FEWEST_PERIODS or not limit.max_bytes or not limit.period_ms:
        return False
    periods = float(took.sum()) / (limit.period_ms / 1000)
    ready = 0 if first or (came == came[0]).all() else _READY_BYTES
    return periods >= 1 and float(came.sum()) > (1 + TOLERANCE) * (periods + 1) * limit.max_bytes + ready


def _paused(took: Numbers, came: Numbers, limit: _Limit, series: Series, bursts: int) -> bool:
    """Whether the pauses between bursts are the limit's, and not those of a reader that is itself slow."""
    if series.block >= (limit.max_bytes or 0):
        return True
    near_quota = abs(float(np.median(came)) / (limit.max_bytes or 1) - 1) <= _LIKE_THE_LIMIT
    near_period = abs(float(np.median(took)) * 1000 / (limit.period_ms or 1) - 1) <= _LIKE_THE_LIMIT
    return bursts < series.size.size and (near_quota or near_period)


def _against(
    took: Numbers, came: Numbers, limit: _Limit, series: Series, silent_s: float | None, *, paused: bool, settled: bool
) -> dict[str, object]:
    rate, low, high = _with_interval(came, took)
    factor, unclear = rate / limit.configured, _resolution(series, took, came, limit, settled=settled)
    least, most = factor * (1 - unclear), factor * (1 + unclear)
    why: str | None = None
    if silent_s is not None:
        holds: object = False
        why = f"stalled: it gave nothing for the last {duration_text(silent_s)}"
    elif least >= 1 - TOLERANCE and most <= 1 + TOLERANCE:
        holds = True
    elif most < 1 - TOLERANCE and not paused:
        holds = pd.NA
        slower = f"{_percent(1 - factor)} slower, without pauses of its period"
        why = f"{slower}: the limit was not reached, so the reader or what feeds it is slow"
    elif most < 1 - TOLERANCE or least > 1 + TOLERANCE:
        holds = False
        why = f"{_percent(abs(factor - 1))} {'slower' if factor < 1 else 'faster'} than its limit"
    else:
        holds = pd.NA
        why = f"reads of {series.block} bytes leave {_percent(unclear)} of the rate open: read fewer bytes at a time, or for longer"
    return {
        "bytes_per_second": rate,
        "low": low,
        "high": high,
        "ratio": factor,
        "ratio_low": low / limit.configured,
        "ratio_high": high / limit.configured,
        "resolution_fraction": unclear,
        "holds": holds,
        "why": why,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _resolution(series: Series, took: Numbers, came: Numbers, limit: _Limit, *, settled: bool) -> float:
    """The share of the bytes counted that whole reads cannot tell: a read that spans two bursts counts in the later one.

    None spans where reads gave what was there instead of waiting for a whole block, nor where a burst is a whole number of reads,
    or a read of bursts, and all bursts were of one size and, where a read takes several, equally far apart. A first burst that
    counts (nothing is ``settled`` before it) may have had a read and its parts of what lay ready.
    """
    quota, block = limit.max_bytes or 0, series.block
    if (series.size < block).any():
        return 0.0
    even = block <= quota or float(np.ptp(took)) < (limit.period_ms or 0) / 2000
    if (quota % block == 0 or block % quota == 0) and even and (came == came[0]).all():
        return 0.0
    return (min(block, quota) if settled else 3 * block) / float(came.sum())


def _with_interval(came: Numbers, took: Numbers) -> tuple[float, float, float]:
    """All bytes by all time, with the interval over periods, each drawn with its bytes and its time together."""
    total_s = float(took.sum())
    rate = float(came.sum()) / total_s if total_s > 0 else math.nan
    if came.size < FEWEST or not total_s > 0:
        return rate, math.nan, math.nan

    def drawn(places: Numbers, **_axis: int) -> Numbers:
        chosen = places.astype(np.int64)
        found: Numbers = came[chosen].sum(axis=-1) / np.maximum(took[chosen].sum(axis=-1), 1e-12)
        return found

    return rate, *bootstrap_interval((np.arange(came.size, dtype=np.float64),), drawn)
