"""The reads of a source in memory that the process that reads shares with its parent: nothing that was read is lost with it.

All are 64-bit numbers, and zero at first. Four: when the reading began, how many reads there are, whether it came to its end, and
how many there were when the row of reads under way began. Then three a read: when it was called, how long it took, and the bytes
that came or, below zero, the error's number, as the kernel returns them itself. Then what a row of reads leaves, to be made reads
of: its moments, and its calls with what they gave (:mod:`toolkit.sensors.call_row`).
"""

from __future__ import annotations

import ctypes
import errno
import time
from typing import Callable, Iterator, NamedTuple

from toolkit.sensors.call_row import NUMBERS_A_CALL, RESULT, CallRow, call_row

__all__ = ["AT_ONCE", "LoggedRead", "ReadLog"]

#: Reads made in a row, at most.
AT_ONCE = 256

_BEGUN_NS, _COUNT, _ENDED, _ROW_FROM, _FIRST_READ = range(5)
_PER_READ = 3
# A row: when each read was called, and ended, as a struct timespec of twice 64 bits; the calls that are made for it.
_PER_MOMENTS = 4
_CALLS_A_READ = 3
_NUMBERS_A_ROW = AT_ONCE * (_PER_MOMENTS + _CALLS_A_READ * NUMBERS_A_CALL)
_NUMBER_BYTES = 8
_NS_PER_S = 10**9


class LoggedRead(NamedTuple):
    """A read: CLOCK_BOOTTIME when it was called; its time; the bytes that came, or the error's number below zero."""

    called_ns: int
    wait_ns: int
    gave: int


class ReadLog:
    """Reads as they are added, seen from both sides.

    Parameters
    ----------
    numbers : memoryview
        Of 64-bit numbers, at first zero: :meth:`size_bytes` of memory.

    Examples
    --------
    >>> log = ReadLog(memoryview(bytearray(ReadLog.size_bytes(10))).cast("q"))
    >>> log.put(1000, 1600, 64)
    >>> list(log.reads())
    [LoggedRead(called_ns=1000, wait_ns=600, gave=64)]
    """

    def __init__(self, numbers: memoryview) -> None:
        self._numbers = numbers
        self._row = len(numbers) - _NUMBERS_A_ROW

    @staticmethod
    def size_bytes(most_reads: int) -> int:
        """What so many reads need."""
        return _NUMBER_BYTES * (_FIRST_READ + _PER_READ * most_reads + _NUMBERS_A_ROW)

    @property
    def begun_ns(self) -> int:
        """When the reading began; 0 before."""
        return int(self._numbers[_BEGUN_NS])

    @property
    def count(self) -> int:
        """Reads so far."""
        return int(self._numbers[_COUNT])

    @property
    def ended(self) -> bool:
        """Whether the reading came to its own end."""
        return bool(self._numbers[_ENDED])

    def begin(self) -> int:
        """Reading begins; gives when."""
        self._numbers[_BEGUN_NS] = now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return now

    def end(self) -> None:
        """Reading has come to its end."""
        self._numbers[_ENDED] = 1

    def put(self, called_ns: int, ended_ns: int, gave: int) -> None:
        """Add a read. It counts only once it is there, for whoever looks after a kill."""
        at = _FIRST_READ + _PER_READ * self._numbers[_COUNT]
        self._numbers[at] = called_ns
        self._numbers[at + 1] = ended_ns - called_ns
        self._numbers[at + 2] = gave
        self._numbers[_COUNT] += 1

    def reads(self) -> Iterator[LoggedRead]:
        """All reads, to the one that gave nothing more."""
        for at in range(_FIRST_READ, _FIRST_READ + _PER_READ * self.count, _PER_READ):
            read = LoggedRead(*self._numbers[at : at + _PER_READ])
            yield read
            if read.gave <= 0:
                return

    def gave_nothing(self, since: int) -> bool:
        """Whether a read gave nothing more, of those from that number on."""
        return 0 in self._numbers[_FIRST_READ + _PER_READ * since + 2 : _FIRST_READ + _PER_READ * self.count : _PER_READ]

    def row(self, function: str, arguments: list[int]) -> Callable[[int], bool] | None:
        """What makes so many reads in a row and is true if none failed; None where there are no such rows.

        Parameters
        ----------
        function, arguments : str, list of int
            The call of libc that reads once.
        """
        make = call_row().make
        if make is None:
            return None
        moments = ctypes.addressof(ctypes.c_int64.from_buffer(self._numbers, _NUMBER_BYTES * self._row))
        calls: list[tuple[str, list[int]]] = []
        for i in range(AT_ONCE):
            called, ended = (moments + _NUMBER_BYTES * (_PER_MOMENTS * i + half) for half in (0, 2))
            calls += [
                ("clock_gettime", [time.CLOCK_BOOTTIME, called]),
                (function, arguments),
                ("clock_gettime", [time.CLOCK_BOOTTIME, ended]),
            ]
        row = make(calls, self._numbers[self._row + AT_ONCE * _PER_MOMENTS :])
        return lambda reads: self._make(row, moments, reads)

    def _make(self, row: CallRow, moments: int, reads: int) -> bool:
        # A moment of 0 has not come. Only once all are gone does the row begin.
        ctypes.memset(moments, 0, _NUMBER_BYTES * _PER_MOMENTS * AT_ONCE)
        self._numbers[_ROW_FROM] = self._numbers[_COUNT]
        return row(_CALLS_A_READ * reads)

    def gather(self) -> int | None:
        """Add the reads of the row that was made, or was under way; gives when one was called that has not ended."""
        for i in range(self.count - self._numbers[_ROW_FROM], AT_ONCE):
            at = self._row + _PER_MOMENTS * i
            called_s, called_ns, ended_s, ended_ns = self._numbers[at : at + _PER_MOMENTS]
            called, ended = called_s * _NS_PER_S + called_ns, ended_s * _NS_PER_S + ended_ns
            if not ended:
                return called or None
            call = self._row + AT_ONCE * _PER_MOMENTS + NUMBERS_A_CALL * (_CALLS_A_READ * i + 1)
            self.put(called, ended, self._numbers[call + RESULT])
        return None

    def give_up(self, budget_s: float) -> None:
        """Add the read that a reading that was killed never ended: waited for until the end of the budget, if called by then."""
        called, ending = self.gather(), self.begun_ns + int(budget_s * 1e9)
        if called is None:
            last = list(self.reads())[-1:]
            called = last[0].called_ns + last[0].wait_ns if last else self.begun_ns
        if called < ending and _FIRST_READ + _PER_READ * (self.count + 1) <= self._row:
            self.put(called, ending, -errno.ETIMEDOUT)
