"""The process that reads a source for :func:`toolkit.sensors.sources.read_source`: block by block, until its budget is used up.

The first read goes through Python. While reads are quick, those that follow are a row of calls with no Python between the clock and
the read (:mod:`toolkit.sensors.call_row`), so that a wait of half a microsecond is that of the source and not of an interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import mmap
import os
import signal
import sys
import time
from types import FrameType
from typing import Callable

from toolkit.sensors.read_log import AT_ONCE, ReadLog

__all__ = ["GETRANDOM", "Source", "read_until"]

GETRANDOM = "getrandom"

# A read that the first alarm did not end had nothing to give; the next alarm gives it up.
_ALARM_AGAIN_S = 0.02

# How long a row of reads may take, from the waits of those before: the budget is looked at between rows. Fewer are not worth it.
_ROW_NS = 1_000_000
_FEWEST_IN_A_ROW = 4

# PR_SET_PDEATHSIG of include/uapi/linux/prctl.h
_PR_SET_PDEATHSIG = 1


class Source:
    """A source, open: a device is read into one buffer, unbuffered; getrandom has no file.

    Parameters
    ----------
    source : str
        ``getrandom``, or a path.
    block_bytes : int
        Bytes asked for at once.

    Raises
    ------
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> with contextlib.closing(Source("getrandom", 32)) as source:
    ...     source.read()
    32
    """

    def __init__(self, source: str, block_bytes: int) -> None:
        self._buffer = ctypes.create_string_buffer(block_bytes)
        place = ctypes.addressof(self._buffer)
        if source == GETRANDOM:
            self._file: io.FileIO | None = None
            self.call: tuple[str, list[int]] | None = ("getrandom", [place, block_bytes, 0])
        else:
            self._file = io.FileIO(source)
            self.call = ("read", [self._file.fileno(), place, block_bytes])

    def read(self) -> int | None:
        """Read once; gives the bytes that came, None where it would have had to wait and may not."""
        if self._file is None:
            return len(os.getrandom(len(self._buffer)))
        return self._file.readinto(self._buffer)

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()


class _GivenUpError(Exception):
    """Raised by the alarm inside a read that gives nothing."""


def read_until(opened: Callable[[], Source], budget_s: float, most_reads: int, log: ReadLog) -> None:
    """Read until the budget is used up, an error comes, or there are enough reads.

    Parameters
    ----------
    opened : callable
        Opens the source: within the budget, as opening a FIFO waits for its writer.
    budget_s, most_reads : float, int
        When to end.
    log : ReadLog
        Where the reads go.

    Examples
    --------
    >>> log = ReadLog(memoryview(bytearray(ReadLog.size_bytes(10))).cast("q"))
    >>> read_until(lambda: Source("getrandom", 32), 1.0, 10, log)
    >>> [read.gave for read in log.reads()] == [32] * 10
    True
    """
    alarmed_at = -1

    def alarm(_signal: int, _frame: FrameType | None) -> None:
        # A read that had something returns it on the first alarm. Python calls again one that had nothing (PEP 475); it is
        # given up when the next alarm finds no read more.
        nonlocal alarmed_at
        if alarmed_at == log.count:
            raise _GivenUpError
        alarmed_at = log.count

    before = signal.signal(signal.SIGALRM, alarm)
    called: int | None = log.begin()
    ending = log.begun_ns + int(budget_s * 1e9)
    signal.setitimer(signal.ITIMER_REAL, budget_s, _ALARM_AGAIN_S)
    try:
        with contextlib.closing(opened()) as source:
            row = log.row(*source.call) if source.call is not None else None
            called = _now_ns()
            while called is not None and log.count < most_reads:
                gave = source.read()
                ended = _now_ns()
                log.put(called, ended, -errno.EAGAIN if gave is None else gave)
                if not gave or ended >= ending:
                    break
                called = ended if row is None else _quick_reads(row, ended - called, ending, most_reads, log)
    except _GivenUpError:
        log.put(called or log.begun_ns, _now_ns(), -errno.ETIMEDOUT)
    except OSError as error:
        log.put(called or log.begun_ns, _now_ns(), -(error.errno or errno.EIO))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _quick_reads(row: Callable[[int], bool], wait_ns: int, ending_ns: int, most_reads: int, log: ReadLog) -> int | None:
    """Read in rows while that is quick; gives when the next read is called, or was, and None when there is none to come."""
    while True:
        reads = min(AT_ONCE, most_reads - log.count, _ROW_NS // max(wait_ns, 1))
        now = _now_ns()
        if reads < _FEWEST_IN_A_ROW:
            return now
        whole = row(reads)
        number = ctypes.get_errno()
        before, unfinished = log.count, log.gather()
        if not whole:
            if number == errno.EINTR:
                return unfinished
            log.put(unfinished or now, _now_ns(), -number)
            return None
        made = _now_ns()
        if made >= ending_ns or log.gave_nothing(before):
            return None
        wait_ns = (made - now) // reads


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _main(source: str, block_bytes: str, budget_s: str, most_reads: str, shared: str, parent: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted as well, and ends this process
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return  # the parent is gone already
    with mmap.mmap(int(shared), 0) as memory, memoryview(memory).cast("q") as numbers:
        log = ReadLog(numbers)
        read_until(lambda: Source(source, int(block_bytes)), float(budget_s), int(most_reads), log)
        log.end()


if __name__ == "__main__":
    _main(*sys.argv[1:])
