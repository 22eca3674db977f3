"""What the kernel log says about the random number generator, and how much of that log is still there to be asked.

The log is read through ``/dev/kmsg``, whose records are numbered, and through syslog(2) where there is no such device. Only the
kernel's own records count: a program may write to ``/dev/kmsg`` too, and the kernel marks those as not its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KernelLog", "RngLog", "read_kernel_log", "rng_log", "syslog_records"]

# The actions of syslog(2), include/linux/syslog.h.
_READ_ALL = 3
_SIZE_BUFFER = 10

# CONSOLE_EXT_LOG_MAX of kernel/printk/internal.h: the longest record that a read of /dev/kmsg gives.
_LONGEST_RECORD = 8192

_SYSLOG_LINE = re.compile(r"<(\d{1,9})>(?:\[\s*(\d{1,18}\.\d{1,9})\])?(?:\[\s*[TC]\d+\])? ?(.*)")

# A number that a kernel writes: a guest may call anything its log.
_NUMBER = re.compile(r"[0-9]{1,18}")

# All spellings since 3.13: the pool of old, the CRNG, and the CRNG seeded from the processor (4.19 to 5.17).
_READY = re.compile(r"random: (?:crng init done|crng done \(trusting CPU's manufacturer\)|nonblocking pool is initialized)")
_URANDOM_READ = re.compile(r"random: .*(?:uninitialized urandom read|urandom read with \d+ bits of entropy)")
# A guest can put anything into what it calls its log: a number of five thousand digits is none.
_URANDOM_MISSED = re.compile(r"random: (\d{1,12}) urandom warning\(s\) missed due to ratelimiting")
_VM_FORK = re.compile(r"random: crng reseeded due to virtual machine fork")


@dataclass(frozen=True)
class KernelLog:
    """The kernel's own records that could be read.

    Attributes
    ----------
    state : str
        ``complete`` from the first record of this boot; ``overwritten`` where the start is gone; ``refused`` where this user may
        not read it; ``absent`` where the machine shows none.
    records : tuple of (float or None, str)
        Seconds since boot (None where the kernel does not stamp its records) and text.
    """

    state: str
    records: tuple[tuple[float | None, str], ...] = ()


@dataclass(frozen=True)
class RngLog:
    """What a kernel log says about the random number generator; None is "the log does not tell", never "none"."""

    crng_ready_s: float | None = None
    urandom_warnings: int | None = None
    vm_fork_reseeds: int | None = None


def read_kernel_log(root: Path = Path("/")) -> KernelLog:
    """The kernel log, without waiting for records to come.

    Parameters
    ----------
    root : Path
        Where ``dev/kmsg`` is looked for; a recorded tree has it as a text file. syslog(2) is asked only for ``/`` itself.
    """
    try:
        descriptor = os.open(str(root / "dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        refused = True
    except OSError:
        refused = False
    else:
        try:
            return _kmsg(descriptor)
        except PermissionError:
            refused = True
        except IsADirectoryError:  # in what a guest recorded
            refused = False
        finally:
            os.close(descriptor)
    if root == Path("/"):
        return _syslog(refused)
    return KernelLog("refused" if refused else "absent")


def rng_log(log: KernelLog) -> RngLog:
    """Readiness, urandom warnings and reseeds after a VM fork, from a kernel log.

    Readiness is said once a boot, so it counts wherever it is found. Counts are given only from a complete log, since what was
    overwritten cannot be counted. The warnings are those that the kernel wrote or says it left out; kernels before 5.19 stop
    after ten without counting on.

    Examples
    --------
    >>> rng_log(KernelLog("complete", ((5.1, "random: crng init done"),)))
    RngLog(crng_ready_s=5.1, urandom_warnings=0, vm_fork_reseeds=0)
    >>> rng_log(KernelLog("overwritten"))
    RngLog(crng_ready_s=None, urandom_warnings=None, vm_fork_reseeds=None)
    """
    ready_s = None
    warnings = reseeds = 0
    for seconds, text in log.records:
        missed = _URANDOM_MISSED.match(text)
        if _READY.match(text):
            ready_s = seconds
        elif missed:
            warnings += int(missed.group(1))
        elif _URANDOM_READ.match(text):
            warnings += 1
        elif _VM_FORK.match(text):
            reseeds += 1
    if log.state != "complete":
        return RngLog(ready_s)
    return RngLog(ready_s, warnings, reseeds)


def _kmsg(descriptor: int) -> KernelLog:
    """Read records until none is left: ``priority,sequence,microseconds,flags;text`` (Documentation/ABI/testing/dev-kmsg)."""
    pieces = []
    overwritten = False
    while True:
        try:
            piece = os.read(descriptor, _LONGEST_RECORD)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.EPIPE:  # EPIPE: records were overwritten while they were read; the next read goes on after them
                raise
            overwritten = True
            continue
        if not piece:
            break
        pieces.append(piece)
    lines = b"".join(pieces).decode("utf-8", "replace").split("\n")
    records = []
    first = None
    for line in lines:
        head, found, text = line.partition(";")
        fields = head.split(",")
        if not found or len(fields) < 4 or not all(_NUMBER.fullmatch(field) for field in fields[:3]):
            continue  # a continuation line with the device's properties; it begins with a blank
        if first is None:
            first = int(fields[1])
        if _is_kernel(int(fields[0])):
            records.append((int(fields[2]) / 1e6, text))
    if first is None:
        return KernelLog("overwritten")
    return KernelLog("overwritten" if overwritten or first != 0 else "complete", tuple(records))


def _syslog(refused: bool) -> KernelLog:
    """The log through syslog(2), which has no numbers: it is complete when it begins as every boot does."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "klogctl"):
        return KernelLog("refused" if refused else "absent")
    size = library.klogctl(_SIZE_BUFFER, None, 0)
    buffer = ctypes.create_string_buffer(max(size, 1))
    length = library.klogctl(_READ_ALL, buffer, len(buffer)) if size > 0 else -1
    if length < 0:
        return KernelLog("refused" if refused or ctypes.get_errno() == errno.EPERM else "absent")
    return syslog_records(buffer.raw[:length].decode("utf-8", "replace"))


def syslog_records(text: str) -> KernelLog:
    r"""A log as syslog(2) gives it, and ``dmesg --raw``: ``<6>[    0.000000] Linux version …``.

    Examples
    --------
    >>> syslog_records("<5>[    0.000000] Linux version 6.1\n<6>[    5.100000] random: crng init done").records[1]
    (5.1, 'random: crng init done')
    """
    records = []
    for line in text.split("\n"):
        match = _SYSLOG_LINE.match(line)
        if match and _is_kernel(int(match.group(1))):
            records.append((float(match.group(2)) if match.group(2) else None, match.group(3)))
    begun = bool(records) and records[0][1].startswith("Linux version ")
    return KernelLog("complete" if begun else "overwritten", tuple(records))


def _is_kernel(priority: int) -> bool:
    """Facility 0 is the kernel's; what a program writes to /dev/kmsg is never given it (LOG_KERN, LOG_USER of sys/syslog.h)."""
    return priority >> 3 == 0
