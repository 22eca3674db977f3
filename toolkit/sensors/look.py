"""A look at the entropy pool and at the CRNG's readiness that costs microseconds, and a series of looks at a timer's moments."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, Iterator, NamedTuple, Tuple, Union

from toolkit.sensors.call_row import CallRow, call_row
from toolkit.sensors.ticks import Ticks

__all__ = ["Look", "Looked", "LooksInARow", "PoolSample", "RawLooks"]

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


class LooksInARow(NamedTuple):
    """Looks as a row of calls left them in memory, of a CRNG that is ready.

    Attributes
    ----------
    looks : int
        How many.
    came : bytes
        The timer's counts, 64 bits each.
    polls : bytes
        ``struct pollfd`` each: a 32-bit descriptor, and 16 bits of events asked for and told.
    texts : bytes
        What the file said, 32 bytes each, zeros behind it.
    boot, utc : bytes
        ``struct timespec`` each, 64 bits of seconds and of nanoseconds: CLOCK_BOOTTIME and CLOCK_REALTIME.
    """

    looks: int
    came: bytes
    polls: bytes
    texts: bytes
    boot: bytes
    utc: bytes


#: What a series leaves, for :meth:`Look.looked` to make sense of later: many looks, or one.
RawLooks = Union[LooksInARow, Tuple[bytes, PoolSample, int, int]]

#: Looks made in a row, at most.
_AT_ONCE = 256
_CALLS_A_LOOK = 5
_TEXT_BYTES = 32
_NS_PER_S = 10**9


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
        self._row: _Row | None = None

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

    def series(self, ticks: Ticks, looks: int, into: list[RawLooks]) -> None:
        """Look at each of the timer's next moments, once for all that have come.

        Parameters
        ----------
        ticks : Ticks
            The moments.
        looks : int
            How many looks to make; it may stop at fewer, where a signal came or that would be many.
        into : list
            The looks are added; what an exception leaves is there.

        Raises
        ------
        OSError
            If the pool cannot be read any more.

        Examples
        --------
        >>> made = []
        >>> with Look() as look, Ticks(1_000_000) as ticks:
        ...     look.series(ticks, 1, made)
        >>> next(Look.looked(made[0])).moments >= 1
        True
        """
        make = call_row().make
        if make is not None and self._ready and self._available is not None and self._random is not None:
            if self._row is None or self._row.timer != ticks.fd:
                self._row = _Row(make, ticks.fd, self._random, self._available)
            self._row.run(looks, into)
            return
        into.extend(
            (os.read(ticks.fd, 8), self(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()) for _ in range(looks)
        )

    @staticmethod
    def looked(raw: RawLooks) -> Iterator[Looked]:
        """What the looks of a series saw, one by one."""
        if not isinstance(raw, LooksInARow):
            came, sample, t_ns, utc_ns = raw
            yield Looked(Ticks.count(came), t_ns, utc_ns, *sample)
            return
        columns = (("Q", raw.came), ("ihh", raw.polls), (f"{_TEXT_BYTES}s", raw.texts), ("qq", raw.boot), ("qq", raw.utc))
        for row in zip(*(struct.iter_unpack(f"={form}", memory) for form, memory in columns)):
            (moments,), (_, _, readable), (text,), (boot_s, boot_ns), (utc_s, utc_ns) = row
            bits = int(text.rstrip(b"\0"))
            yield Looked(moments, boot_s * _NS_PER_S + boot_ns, utc_s * _NS_PER_S + utc_ns, bits, True, bool(readable))


class _PollFd(ctypes.Structure):
    """struct pollfd of poll(2)."""

    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


class _Row:
    """Looks at a CRNG that is ready, as calls in a row, and the memory that they fill."""

    def __init__(self, make: Callable[[list[tuple[str, list[int]]]], CallRow], timer: int, random: int, available: int) -> None:
        self.timer = timer
        self._came = (ctypes.c_uint64 * _AT_ONCE)()
        self._polls = (_PollFd * _AT_ONCE)(*[_PollFd(random, select.POLLIN, 0) for _ in range(_AT_ONCE)])
        self._texts = (ctypes.c_char * (_TEXT_BYTES * _AT_ONCE))()
        # struct timespec, twice 64 bits wherever there is machine code
        self._boot, self._utc = ((ctypes.c_int64 * (2 * _AT_ONCE))() for _ in range(2))
        came, polls, texts = (ctypes.addressof(self._came), ctypes.addressof(self._polls), ctypes.addressof(self._texts))
        boot, utc = ctypes.addressof(self._boot), ctypes.addressof(self._utc)
        calls: list[tuple[str, list[int]]] = []
        for i in range(_AT_ONCE):
            # Wait for a moment, look, and read the clocks, as Look.__call__ and its caller do.
            calls += [
                ("read", [timer, came + 8 * i, 8]),
                ("poll", [polls + ctypes.sizeof(_PollFd) * i, 1, 0]),
                ("pread", [available, texts + _TEXT_BYTES * i, _TEXT_BYTES, 0]),
                ("clock_gettime", [time.CLOCK_BOOTTIME, boot + 16 * i]),
                ("clock_gettime", [time.CLOCK_REALTIME, utc + 16 * i]),
            ]
        self._calls = make(calls)

    def run(self, looks: int, into: list[RawLooks]) -> None:
        """Make looks."""
        for memory in (self._texts, self._utc):
            ctypes.memset(memory, 0, ctypes.sizeof(memory))
        try:
            if not self._calls(_CALLS_A_LOOK * min(looks, _AT_ONCE)) and ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), f"the entropy pool cannot be read: {os.strerror(ctypes.get_errno())}")
        finally:
            # Those that are whole: the calendar's time comes last, and is not of 1970.
            made = sum(map(bool, self._utc[: 2 * looks : 2]))
            if made:
                columns = ((self._came, 8), (self._polls, 8), (self._texts, _TEXT_BYTES), (self._boot, 16), (self._utc, 16))
                into.append(LooksInARow(made, *(ctypes.string_at(memory, made * size) for memory, size in columns)))


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
