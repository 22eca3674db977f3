"""What an agent says of the guest that it runs in: who it is, and its random number generator's state.

Standard library only, Python 3.8 and later. Nothing here waits for the kernel's generator, or an agent could not start while that
is not ready; and what only the state needs is loaded when it is read.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from toolkit._version import __version__
from toolkit.guests.wire import LAYOUTS, STATE

__all__ = ["new_session", "of_guest", "state"]


def new_session() -> int:
    """A number that no other agent of this guest has."""
    when = f"{os.getpid()} {time.clock_gettime_ns(time.CLOCK_BOOTTIME)}"
    return zlib.crc32(_boot_id().encode()) << 32 | zlib.crc32(when.encode())


def of_guest() -> dict[str, Any]:
    """The fields of a HELLO that are the guest's.

    Examples
    --------
    >>> sorted(of_guest())[:3]
    ['agent_version', 'boot_id', 'cpu_count']
    """
    uname = os.uname()
    return {
        "t_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "utc_ns": time.time_ns(),
        "boot_id": _boot_id(),
        "kernel": uname.release,
        "host_name": os.fsencode(uname.nodename).decode("utf-8", "backslashreplace"),
        "agent_version": __version__,
        "python": sys.version.split()[0],
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def state() -> bytes:
    """The record of a STATE."""
    from toolkit.sensors.rng import read_rng_state

    return LAYOUTS[STATE].pack(**read_rng_state().row())


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _cpu_model() -> str | None:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model", "Processor"):
                return value.strip()
    return None
