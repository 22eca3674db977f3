"""When targets starved for randomness: episodes, from samples in memory, on Dask's threads or on a cluster, with the same answer.

What starved means is said in :mod:`toolkit.analysis.evidence`, how episodes are found and joined in
:mod:`toolkit.analysis.episodes`; here is the public function, and where its work runs.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from toolkit.analysis.episodes import UNSEEN, Episodes, Key, Summary, join, summarise
from toolkit.analysis.evidence import BOOT, CAUSES, Regimes, boots_of, regimes_of, rows_of_boots
from toolkit.analysis.frames import Frame, check_columns
from toolkit.errors import NotMeasuredWarning, UsageError

__all__ = ["starvation"]

_DTYPES = {
    "host": "str",
    "guest": "str",
    "boot_id": "str",
    "start_ns": "int64",
    "end_ns": "int64",
    "samples": "int64",
    "lowest_bits": "Int64",
    "cause": "str",
    "censored": "str",
}
#: Boots that need all their rows at once are taken so many rows at a time, so that memory stays bounded.
_ROWS_AT_ONCE = 8_000_000


def starvation(
    samples: Frame,
    regimes: str | Frame,
    floor_bits: int = 64,
    *,
    max_gap_s: float | None = None,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """Find the episodes in which targets starved for randomness.

    An episode is a longest run of samples of a boot in which the target starved by its regime's own definition. ``blocking``:
    fewer than ``floor_bits`` in the pool, or ``/dev/random`` not readable. The others: the CRNG not ready; where a sample did not
    see that, ``/dev/random`` not readable. A sample that saw nothing of this is no sample. Samples of one moment count as one,
    which starved if any of them did; the order of the rows does not matter.

    Parameters
    ----------
    samples : DataFrame of pandas or Dask
        ``entropy_samples``; of Dask any partitions, a boot's samples may be spread over them at any place.
    regimes : str or DataFrame
        A regime's name for all boots, or ``rng_state`` rows that say which boot (host, guest, boot_id) has which.
    floor_bits : int
        Below this a pool of the regime ``blocking`` starves. 64 bits is what ``/dev/random`` waited for by default
        (``read_wakeup_threshold`` in Linux before 5.6).
    max_gap_s : float, optional
        Sampling has a gap, and an episode is cut, where two samples are further apart. By default it is found for each boot:
        eight times the upper edge of the power of two, in ns, in which its median interval lies, so 8 to 16 typical intervals.
    scheduler : str, optional
        Where Dask computes: the address of a ``dask.distributed`` scheduler, or ``threads``, ``synchronous``. By default a
        cluster whose client is active, else threads. Of no consequence for pandas.

    Returns
    -------
    pandas.DataFrame
        A row an episode, by host, guest, boot and time: ``host``, ``guest`` (null for the host itself), ``boot_id``, ``start_ns``
        and ``end_ns`` (its first and last starving sample, CLOCK_BOOTTIME), ``samples``, ``lowest_bits`` (of entropy_avail, null
        where it was not seen), ``cause`` (``crng_not_ready``, else ``random_not_readable``, else ``pool_below_floor``: the first
        that any of its samples shows), ``censored`` (``none``, ``start``, ``end``, ``both``: where the edge of the data or a gap
        cut it, so that it may have lasted longer).

    Raises
    ------
    TableError
        If a column is missing, or a time is null or below zero.
    UsageError
        If a regime is none, a boot has two, or ``max_gap_s`` is not above zero.

    Warns
    -----
    NotMeasuredWarning
        If boots have samples and no known regime; they are left out, never guessed.

    Examples
    --------
    >>> import pandas as pd
    >>> samples = pd.DataFrame({
    ...     "host": "h", "guest": "g", "boot_id": "b", "t_ns": [1, 2, 3, 4, 5], "entropy_avail_bits": [0, 20, 256, 256, 256],
    ...     "crng_ready": [False, False, True, True, True], "random_readable": None,
    ... })
    >>> starvation(samples, "latched")[["start_ns", "end_ns", "samples", "lowest_bits", "cause", "censored"]]
       start_ns  end_ns  samples  lowest_bits           cause censored
    0         1       2        2            0  crng_not_ready    start
    """
    known = regimes_of(regimes)
    check_columns(samples, known.columns, "starvation")
    if max_gap_s is not None and not (max_gap_s > 0 and math.isfinite(max_gap_s)):
        raise UsageError(f"max_gap_s={max_gap_s!r} is not a duration above zero", "Give seconds, or None to find it.")
    max_gap_ns = None if max_gap_s is None else round(max_gap_s * 1e9)
    work = _Work(known, floor_bits, max_gap_ns)
    with _scheduler(scheduler) as where:
        partitions = _Partitions(samples[known.columns], where)
        told = partitions.each(work)
        summaries = [summary for summary, _ in told]
        joined = [join(summaries, max_gap_ns)]
        for keys in _batches(joined[0].again, summaries):
            holding = [place for place, summary in enumerate(summaries) if not keys.isdisjoint(summary.keys)]
            rows = pd.concat(partitions.each(_Rows(keys), holding), ignore_index=True)
            joined.append(join([work(rows)[0]], max_gap_ns))
    unknown = set().union(*(unknown for _, unknown in told))
    if unknown:
        warnings.warn(_not_measured(unknown), stacklevel=2)
    return _framed(joined)


@dataclass(frozen=True)
class _Work:
    """What is done with a partition: its summary, and its boots of no known regime. An object, so that it travels to a worker."""

    regimes: Regimes
    floor_bits: int
    max_gap_ns: int | None

    def __call__(self, frame: pd.DataFrame) -> tuple[Summary, set[Key]]:
        unknown: set[Key] = set()
        return summarise(boots_of(frame, self.regimes, self.floor_bits, unknown), self.max_gap_ns), unknown


@dataclass(frozen=True)
class _Rows:
    """Takes the rows of some boots out of a partition."""

    keys: set[Key]

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        return rows_of_boots(frame, self.keys)


@dataclass(frozen=True)
class _Partitions:
    """The partitions of a frame: one of pandas, or as many as Dask has, computed where Dask is told to."""

    frame: Frame
    where: Mapping[str, Any]

    def each(self, function: Callable[[pd.DataFrame], Any], places: Sequence[int] | None = None) -> list[Any]:
        """The function's result for each partition, or for those at some places."""
        if isinstance(self.frame, pd.DataFrame):
            return [function(self.frame)]
        from dask.base import compute

        # Mapped before it is taken apart, reading a partition and working on it are one task, and no row travels between workers.
        mapped = self.frame.map_partitions(function, meta=(None, "object"), enforce_metadata=False)  # type: ignore[no-untyped-call]
        parts = mapped.to_delayed()
        chosen = parts if places is None else [parts[place] for place in places]
        return list(compute(*chosen, **self.where))  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _scheduler(given: str | None) -> Iterator[dict[str, Any]]:
    """What tells Dask where to compute; the client of an address is closed at the end."""
    if given is None:
        yield {}
    elif ":" in given:
        from distributed import Client

        with Client(given, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            yield {"scheduler": client}
    elif given in ("threads", "synchronous"):
        yield {"scheduler": given}
    else:
        raise UsageError(f"{given!r} is not a scheduler", "Give an address such as tcp://host:8786, or threads, or synchronous.")


def _batches(keys: Iterable[Key], summaries: Sequence[Summary]) -> Iterator[set[Key]]:
    """Boots to take all rows of, so many at once as memory should hold."""
    rows: Counter[Key] = Counter()
    for summary in summaries:
        rows.update(dict(zip(summary.keys, summary.samples.tolist(), strict=True)))
    batch: set[Key] = set()
    held = 0
    for key in keys:
        if batch and held + rows[key] > _ROWS_AT_ONCE:
            yield batch
            batch, held = set(), 0
        batch.add(key)
        held += rows[key]
    if batch:
        yield batch


def _framed(joined: Sequence[Episodes]) -> pd.DataFrame:
    frames = []
    for found in joined:
        columns: dict[str, Any] = {name: [found.keys[i][place] for i in found.owner] for place, name in enumerate(BOOT)}
        lowest = found.columns["lowest_bits"]
        columns |= {name: found.columns[name] for name in ("start_ns", "end_ns", "samples")}
        columns["lowest_bits"] = pd.arrays.IntegerArray(np.where(lowest == UNSEEN, 0, lowest), lowest == UNSEEN)
        flags = found.columns["evidence"]
        columns["cause"] = np.select([flags & flag > 0 for flag, _ in CAUSES], [cause for _, cause in CAUSES], default="")
        columns["censored"] = np.array(["none", "start", "end", "both"])[found.cut_at_start + 2 * found.cut_at_end]
        frames.append(pd.DataFrame(columns).astype(_DTYPES))
    frame = pd.concat(frames, ignore_index=True)
    return frame.sort_values([*BOOT, "start_ns"], na_position="first", ignore_index=True)


def _not_measured(unknown: set[Key]) -> NotMeasuredWarning:
    named = sorted(f"{boot_id} of {host if guest is None else f'{guest} on {host}'}" for host, guest, boot_id in unknown)
    shown = "; ".join(named[:5]) + (f"; and {len(named) - 5} more" if len(named) > 5 else "")
    return NotMeasuredWarning(
        f"boots whose regime is not known were left out: {shown}. Give their rng_state rows, or a regime's name."
    )
