"""Moments at a fixed distance, as the kernel counts them: a timer that is waited for with one read, which tells what was missed."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from types import TracebackType

__all__ = ["Ticks"]

# include/uapi/linux/timerfd.h, and TFD_CLOEXEC, which is O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_COUNT_BYTES = 8
_NS_PER_S = 10**9


class _ITimerSpec(ctypes.Structure):
    """struct itimerspec of timerfd_create(2)."""

    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


class Ticks:
    """The moments ``start + k * interval`` of CLOCK_MONOTONIC, the first at once.

    A timer of the kernel (timerfd_create(2)) rather than a sleep that is worked out anew each time: what Python does between two
    looks, with caches that a millisecond of sleep left cold, costs more than the looks themselves.

    Use as a context manager.

    Parameters
    ----------
    interval_ns : int
        At least 1.

    Attributes
    ----------
    start_ns : int
        The first moment, CLOCK_MONOTONIC.
    fd : int
        A read of eight bytes from it blocks until the next moment, and gives how many have come since the last read; see
        :meth:`count`.

    Raises
    ------
    OSError
        If the kernel gives no timer.

    Examples
    --------
    >>> with Ticks(1_000_000) as ticks:
    ...     came = [ticks.wait() for _ in range(3)]
    >>> all(count >= 1 for count in came)
    True
    """

    def __init__(self, interval_ns: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create: " + os.strerror(ctypes.get_errno()))
        self.start_ns = time.monotonic_ns()
        timer = _ITimerSpec(*divmod(interval_ns, _NS_PER_S), *divmod(self.start_ns, _NS_PER_S))
        if libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(timer), None) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, "timerfd_settime: " + os.strerror(number))

    def __enter__(self) -> Ticks:  # noqa: PYI034 (Self came with Python 3.11)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the timer back; closing twice is no error."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def wait(self) -> int:
        """Wait for the next moment; gives how many have come since the last wait: more than one where some were missed."""
        return self.count(os.read(self.fd, _COUNT_BYTES))

    @staticmethod
    def count(read: bytes) -> int:
        """What eight bytes read from ``fd`` say."""
        return int.from_bytes(read, sys.byteorder)
