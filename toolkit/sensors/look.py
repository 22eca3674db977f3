"""A look at the entropy pool and at the CRNG's readiness that costs microseconds, and a series of looks at a timer's moments."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from types import TracebackType
from typing import List, NamedTuple, Tuple, Union

from toolkit.sensors.ticks import Ticks

__all__ = ["Look", "Looked", "PoolSample", "RawLook"]

_ENTROPY_AVAIL = "proc/sys/kernel/random/entropy_avail"


class PoolSample(NamedTuple):
    """One look at the pool: ``/proc/sys/kernel/random/entropy_avail``, getrandom, poll. None is "cannot be told here"."""

    entropy_avail_bits: int | None
    crng_ready: bool | None
    random_readable: bool | None


class Looked(NamedTuple):
    """A look of a series.

    Attributes
    ----------
    moments : int
        The timer's moments that have come since the look before: 1, and more where some were missed.
    t_ns, utc_ns : int
        When it was made: CLOCK_BOOTTIME, and CLOCK_REALTIME.
    entropy_avail_bits, crng_ready, random_readable
        As of :class:`PoolSample`.
    """

    moments: int
    t_ns: int
    utc_ns: int
    entropy_avail_bits: int | None
    crng_ready: bool | None
    random_readable: bool | None


#: A look as a series leaves it, for :meth:`Look.looked` to make sense of later: the timer's count and the times; and what poll and
#: the file gave, of a CRNG that was known to be ready, or a whole look.
RawLook = Union[Tuple[bytes, List[Tuple[int, int]], bytes, int, int], Tuple[bytes, PoolSample, int, int]]


class Look:
    """A look at the pool that costs microseconds, because the files stay open between looks.

    Use as a context manager, and call it: each call gives a :class:`PoolSample`. It exists beside
    :func:`toolkit.sensors.rng.read_rng_state` because a watch at 1 kHz must not open files or make objects that live on.

    Parameters
    ----------
    root : Path
        Where proc and dev are. getrandom is asked only where that is ``/``: it has no path.

    Examples
    --------
    >>> with Look() as look:
    ...     sample = look()
    >>> sample.entropy_avail_bits is None or sample.entropy_avail_bits >= 0
    True
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._live = root == Path("/")
        self._ready = False
        self._available = _open(root / _ENTROPY_AVAIL, 0)
        # A recorded tree has no device, and poll on a plain file always says readable.
        self._random = _open(root / "dev/random", os.O_NONBLOCK) if self._live else None
        self._poll = select.poll()
        if self._random is not None:
            self._poll.register(self._random, select.POLLIN)

    def __enter__(self) -> Look:  # noqa: PYI034 (Self came with Python 3.11)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; closing twice is no error."""
        for descriptor in (self._available, self._random):
            if descriptor is not None:
                os.close(descriptor)
        self._available = self._random = None

    def __call__(self) -> PoolSample:
        """Look once. Readiness is asked first: once ready always ready, so the bits that follow belong to it."""
        # A CRNG that was seen ready stays so until the machine goes down: it is not asked again, which saves a third of a look.
        ready: bool | None = self._ready or None
        readable = bits = None
        if self._live and not ready:
            ready = _crng_ready()
            self._ready = ready is True
        if self._random is not None:
            readable = bool(self._poll.poll(0))
        if self._available is not None:
            bits = int(os.pread(self._available, 32, 0))
        return PoolSample(bits, ready, readable)

    def series(self, ticks: Ticks, looks: int, until_ns: int, into: list[RawLook]) -> None:
        """Look at each of the timer's next moments, once for all that have come.

        Between two looks the processor's caches go cold, so each line of Python costs there many times what it costs in a loop
        that runs hot: what need not be done at once is left to :meth:`looked`.

        Parameters
        ----------
        ticks : Ticks
            The moments.
        looks : int
            How many looks to make.
        until_ns : int
            No look follows one that was made at this time (CLOCK_BOOTTIME) or later.
        into : list
            Each look is added when it is whole; what an interrupt (an exception) leaves is there.

        Examples
        --------
        >>> made = []
        >>> with Look() as look, Ticks(1_000_000) as ticks:
        ...     look.series(ticks, 2, 2**63, made)
        >>> [Look.looked(raw).moments >= 1 for raw in made]
        [True, True]
        """
        read, clock, boottime, utc, append = os.read, time.clock_gettime_ns, time.CLOCK_BOOTTIME, time.time_ns, into.append
        timer, available, random = ticks.fd, self._available, self._random
        if not self._ready or available is None or random is None:
            for _ in range(looks):
                append((read(timer, 8), self(), t_ns := clock(boottime), utc()))
                if t_ns >= until_ns:
                    break
            return
        poll, pread = self._poll.poll, os.pread
        for _ in range(looks):
            append((read(timer, 8), poll(0), pread(available, 32, 0), t_ns := clock(boottime), utc()))
            if t_ns >= until_ns:
                break

    @staticmethod
    def looked(raw: RawLook) -> Looked:
        """What a look of a series saw."""
        if len(raw) == 4:
            came, sample, t_ns, utc_ns = raw
            return Looked(Ticks.count(came), t_ns, utc_ns, *sample)
        came, readable, bits, t_ns, utc_ns = raw
        return Looked(Ticks.count(came), t_ns, utc_ns, int(bits), True, bool(readable))


def _crng_ready() -> bool | None:
    try:
        return len(os.getrandom(1, os.GRND_NONBLOCK)) == 1
    except BlockingIOError:
        return False
    except OSError:  # ENOSYS before 3.17, EPERM from a sandbox: this machine does not say
        return None


def _open(path: Path, flags: int) -> int | None:
    try:
        return os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError:
        return None
