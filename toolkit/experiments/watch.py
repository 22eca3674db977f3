"""Watching the entropy pool and the CRNG at fixed moments: ``entropy_samples``, with the machine beside it once a second."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.errors import UsageError
from toolkit.progress import Progress, silent
from toolkit.runs import Run, begin
from toolkit.sensors.look import Look, LooksInARow, RawLooks
from toolkit.sensors.system import SystemLook
from toolkit.sensors.ticks import Ticks
from toolkit.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.store import Store

__all__ = ["watch"]

# How often samples go to the store: what a machine that goes down takes with it, against how many files there will be.
_BATCH_S = 5.0

_SYSTEM_EVERY_NS = 1_000_000_000
_PROGRESS_EVERY_NS = 250_000_000

# A look as it lies in memory. Null is a number that nothing measured has.
_LOOK = np.dtype([("t_ns", "i8"), ("utc_ns", "i8"), ("bits", "i4"), ("ready", "i1"), ("readable", "i1")])
_NULL = -1


def watch(
    duration_s: float,
    interval_s: float,
    store: Store | None = None,
    *,
    run: Run | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Watch this machine's entropy pool and the readiness of its CRNG.

    Looks are made at ``start + k * interval``, so that they do not drift. A moment that passed while the machine was busy is not
    made up for: it is a gap in the times. Ctrl-C ends the watch early, and what was seen is kept.

    Parameters
    ----------
    duration_s, interval_s : float
        How long, and how often, in seconds.
    store : Store, optional
        Where samples go while the watch goes on, every few seconds, with ``system_samples`` about once a second.
    run : Run, optional
        The run that the samples belong to; without one it begins its own, and puts that into the store too.
    progress : Progress, optional
        Called a few times a second with the seconds done.

    Returns
    -------
    pandas.DataFrame
        ``entropy_samples``: a row a look, in time. ``t_ns`` is when it was made, not when it was due.

    Raises
    ------
    UsageError
        If the duration is not above zero, or the interval below a microsecond.
    StoreError
        If the store cannot be appended to.

    Examples
    --------
    >>> samples = watch(0.05, 0.01)
    >>> list(samples.columns)[-3:]
    ['entropy_avail_bits', 'crng_ready', 'random_readable']
    """
    if not (0 < duration_s < math.inf and 1e-6 <= interval_s < math.inf):
        raise UsageError(f"cannot watch for {duration_s} s every {interval_s} s", "Watch for more than 0 s, every 1 µs at most.")
    begun = run or begin("toolkit.watch()", {"duration_s": duration_s, "interval_s": interval_s})
    if store is not None and run is None:
        store.append("runs", begun.row())
    looks = math.ceil(duration_s / interval_s - 1e-9)
    seen = _Seen(begun, store, max(1, min(looks, math.ceil(_BATCH_S / interval_s))))
    with seen.keeping(), contextlib.suppress(KeyboardInterrupt), Look() as look:
        _look_at_moments(look, SystemLook(), looks, int(interval_s * 1e9), seen, progress)
    return seen.frame()


def _look_at_moments(look: Look, system: SystemLook, looks: int, interval_ns: int, seen: _Seen, progress: Progress) -> None:
    """Make the looks: ``looks`` of them, fewer where the machine was too busy."""
    some = max(1, min(_PROGRESS_EVERY_NS // interval_ns, seen.size))
    system_due = progress_due = 0
    with Ticks(interval_ns) as ticks:
        while seen.moments < looks:
            # Ever fewer towards the end: what is missed among these must not make the watch longer.
            look.series(ticks, min(some, (looks - seen.moments + 1) // 2), seen.raw)
            seen.settle()
            now = time.monotonic_ns() - ticks.start_ns
            if seen.store is not None and now >= system_due:
                seen.add_system(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns(), system())
                system_due = (now // _SYSTEM_EVERY_NS + 1) * _SYSTEM_EVERY_NS
            if now >= progress_due:
                progress(now / 1e9, looks * interval_ns / 1e9, f"{seen.total:,} looks")
                progress_due = now + _PROGRESS_EVERY_NS


def _packed(raw: RawLooks) -> tuple[int, npt.NDArray[np.void]]:
    """The moments that came, and the looks as they lie in memory."""
    if not isinstance(raw, LooksInARow):
        ((came, t_ns, utc_ns, *sample),) = Look.looked(raw)
        return came, np.array([(t_ns, utc_ns, *(_NULL if value is None else value for value in sample))], _LOOK)
    rows = np.empty(raw.looks, _LOOK)
    for name, times in (("t_ns", raw.boot), ("utc_ns", raw.utc)):
        seconds, rest_ns = np.frombuffer(times, np.int64).reshape(-1, 2).T
        rows[name] = seconds * 1_000_000_000 + rest_ns
    texts = np.frombuffer(raw.texts, f"S{len(raw.texts) // raw.looks}")
    rows["bits"] = int(texts[0]) if (texts == texts[0]).all() else [int(text) for text in texts]
    rows["ready"] = True
    rows["readable"] = np.frombuffer(raw.polls, np.int16)[3::4] != 0
    return int(np.frombuffer(raw.came, np.uint64).sum()), rows


class _Batch:
    """Looks of a few seconds in memory that was made before, so that a look allocates nothing that stays."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.stored = False
        self.rows = np.empty(size, _LOOK)
        self.system: list[dict[str, Any]] = []


class _Seen:
    """What was seen so far, and its way to the store, which a thread of its own goes: a look never waits for a disk."""

    def __init__(self, run: Run, store: Store | None, batch_size: int) -> None:
        self.store = store
        #: Looks just made, which :meth:`settle` takes from here.
        self.raw: list[RawLooks] = []
        #: Looks so far; the moments for them that have come, those that were missed among them.
        self.total = self.moments = 0
        self._run = run
        #: Looks of a batch, at most.
        self.size = batch_size
        self._batches = [_Batch(batch_size)]
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="toolkit-watch") if store is not None else None
        self._writing: list[Future[None]] = []

    def settle(self) -> None:
        """Pack the looks of ``raw`` into a batch. Where an exception ends it, it can be done again: none is lost or there twice."""
        packed = [_packed(raw) for raw in self.raw]
        rows = np.concatenate([rows for _, rows in packed] or [np.zeros(0, _LOOK)])
        moments = sum(came for came, _ in packed)
        batch, count = self._batches[-1], len(rows)
        if batch.count + count > self.size:
            batch = _Batch(self.size)
            self._batches.append(batch)
            self._write(self._batches[-2])
        batch.rows[batch.count : batch.count + count] = rows
        # Nothing is called from here on, so no signal's exception comes between these.
        batch.count += count
        self.raw = []
        self.total += count
        self.moments += moments

    def add_system(self, t_ns: int, utc_ns: int, sample: tuple[float | None, int | None, float | None]) -> None:
        """Add a look at the machine."""
        busy, memory, watts = sample
        row = {"t_ns": t_ns, "utc_ns": utc_ns, "cpu_busy_fraction": busy, "memory_available_bytes": memory, "power_watts": watts}
        self._batches[-1].system.append(row)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """On the way out, however that is, what is not yet stored goes to the store; an error of the store comes out here."""
        try:
            yield
        finally:
            try:
                self.settle()
            finally:
                if self._writer is not None:
                    for batch in self._batches:
                        self._writing.append(self._writer.submit(self._store, batch))
                    self._writer.shutdown(wait=True)
        for writing in self._writing:
            writing.result()

    def frame(self) -> pd.DataFrame:
        """All looks."""
        return self._frame(self._batches)

    def _write(self, batch: _Batch) -> None:
        if self._writer is None:
            return
        while self._writing and self._writing[0].done():
            self._writing.pop(0).result()  # an error of the store ends the watch now, not at its end
        self._writing.append(self._writer.submit(self._store, batch))

    def _store(self, batch: _Batch) -> None:
        """Store a batch; doing so twice is doing it once, since Ctrl-C may come between handing over and remembering it."""
        if batch.stored or self.store is None:
            return
        if batch.count:
            self.store.append("entropy_samples", self._frame([batch]))
        if batch.system:
            self.store.append("system_samples", self._system_frame(batch))
        batch.stored = True

    def _frame(self, batches: list[_Batch]) -> pd.DataFrame:
        import pandas as pd

        seen = np.concatenate([batch.rows[: batch.count] for batch in batches])

        def truths(name: str) -> Any:
            values = seen[name]
            return pd.arrays.BooleanArray(values == 1, values == _NULL)

        bits = seen["bits"].astype(np.int64)
        t_ns = seen["t_ns"].astype(np.int64)
        columns = {
            **{name: np.full(len(t_ns), value, dtype=object) for name, value in self._run.common.items()},
            "t_ns": t_ns,
            "utc": pd.to_datetime(seen["utc_ns"].astype(np.int64), utc=True),
            "entropy_avail_bits": pd.arrays.IntegerArray(bits, bits == _NULL),
            "crng_ready": truths("ready"),
            "random_readable": truths("readable"),
        }
        return TABLES["entropy_samples"].frame(columns)

    def _system_frame(self, batch: _Batch) -> pd.DataFrame:
        import pandas as pd

        rows = [{**row, "utc": pd.Timestamp(row["utc_ns"], tz="UTC")} for row in batch.system]
        return self._run.frame("system_samples", rows)
