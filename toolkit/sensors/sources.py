"""Timed reads of random number sources: getrandom, /dev/random, /dev/urandom, /dev/hwrng, or any path.

Each source and block size is read by a process of its own. A read may block in the kernel where neither O_NONBLOCK nor a signal
ends it (a virtio-rng whose host gives nothing waits for SIGKILL alone), and a process can be killed or, if even that takes long,
left behind; a thread cannot. The reader, :mod:`toolkit.sensors.source_reader`, puts each read into memory shared with its parent,
:mod:`toolkit.sensors.read_log`, so what was read is never lost with it.

Reads block as a consumer's would. At the end of the budget a timer interrupts the one under way: what it had is a short read.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple, cast

from toolkit.errors import UnavailableError, UsageError
from toolkit.sensors.read_log import ReadLog
from toolkit.sensors.source_reader import GETRANDOM

__all__ = ["BLOCKS_BYTES", "GETRANDOM", "MOST_READS", "SOURCES", "SourceRead", "check_source", "read_source"]

#: The sources that every Linux may have.
SOURCES = (GETRANDOM, "/dev/random", "/dev/urandom", "/dev/hwrng")

#: Block sizes that show both ends: the cost of a call, and the generator's own speed.
BLOCKS_BYTES = (64, 4096, 65536)

#: Reads kept of one source and block size; after that many its reading stops, though the budget is not used up.
MOST_READS = 10_000

# How long a reader may take to start (an interpreter on a busy, emulated guest), and to end after its budget or a signal.
_START_S = 60.0
_GRACE_S = 1.0


class SourceRead(NamedTuple):
    """One read.

    Attributes
    ----------
    t_ns : int
        When it was called, CLOCK_BOOTTIME.
    source, block_bytes : str, int
        What was asked.
    read_bytes : int or None
        What came, as given: fewer than asked is a short read. None when nothing did.
    wait_ns : int
        From the call to its end, or to the end of the budget.
    errno : int or None
        Why nothing came; ETIMEDOUT when the source had given nothing by the end of the budget.
    """

    t_ns: int
    source: str
    block_bytes: int
    read_bytes: int | None
    wait_ns: int
    errno: int | None


def check_source(source: str) -> None:
    """Refuse what is neither ``getrandom`` nor a path; whether the path is there is found by reading it.

    Raises
    ------
    UsageError
        The message lists the usual ones.
    """
    if source != GETRANDOM and not source.startswith("/"):
        raise UsageError(f"{source!r} is no source", f"Give getrandom or a device's path: {', '.join(SOURCES)}.")


def read_source(source: str, block_bytes: int, budget_s: float, most_reads: int = MOST_READS) -> list[SourceRead]:
    """Read a source block by block until the budget is used up, an error comes, or there are enough reads.

    Parameters
    ----------
    source : str
        ``getrandom`` or the path of a device.
    block_bytes : int
        Bytes asked for in one read.
    budget_s : float
        Seconds after which it ends, whatever the source does (and half a second more for one that must be killed).
    most_reads : int
        Reads after which it stops early.

    Returns
    -------
    list of SourceRead
        At least one row. After an error there is none: a source that is missing, refused or silent gives exactly one.

    Raises
    ------
    UsageError
        If an argument cannot be meant.
    UnavailableError
        If the reading process itself fails.

    Examples
    --------
    >>> read = read_source("/dev/urandom", 64, budget_s=1.0, most_reads=3)[0]
    >>> read.read_bytes, read.errno
    (64, None)
    """
    check_source(source)
    if block_bytes < 1 or most_reads < 1 or not 0 < budget_s < 86400:
        raise UsageError(
            f"cannot read {block_bytes} bytes at a time for {budget_s} s, {most_reads} times",
            "Block and count are at least 1; the budget is above 0 s and below a day.",
        )
    with tempfile.TemporaryFile() as shared:
        shared.truncate(ReadLog.size_bytes(most_reads))
        with mmap.mmap(shared.fileno(), 0) as memory, memoryview(memory).cast("q") as numbers:
            log = ReadLog(numbers)
            _run_reader(source, block_bytes, budget_s, most_reads, shared.fileno(), log)
            reads = list(log.reads())
    return [
        SourceRead(called_ns, source, block_bytes, None if gave < 0 else gave, wait_ns, -gave if gave < 0 else None)
        for called_ns, wait_ns, gave in reads
    ]


def _run_reader(source: str, block_bytes: int, budget_s: float, most_reads: int, shared: int, log: ReadLog) -> None:
    package = str(Path(__file__).resolve().parent.parent.parent)
    search = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    settings = [source, str(block_bytes), repr(budget_s), str(most_reads), str(shared), str(os.getpid())]
    reader = subprocess.Popen(
        [sys.executable, "-S", "-m", "toolkit.sensors.source_reader", *settings],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(shared,),
        env=dict(os.environ, PYTHONPATH=search),
    )
    ended = False
    try:
        ended = _ended_in_time(reader, budget_s, log)
    finally:
        said = _end(reader, ended)
    if not log.begun_ns:
        why = f"failed: {said}" if ended else f"did not start within {_START_S:.0f} s"
        raise UnavailableError(f"the process that reads {source} {why}", "Try again when the machine is less busy.")
    if ended and reader.returncode != 0:
        raise UnavailableError(
            f"the process that reads {source} failed with status {reader.returncode}: {said}", "Please report it."
        )
    if not log.ended:
        log.give_up(budget_s)


def _ended_in_time(reader: subprocess.Popen[bytes], budget_s: float, log: ReadLog) -> bool:
    """Wait for the reader: its end closes its stderr. Its budget counts from its own beginning, not from its interpreter's."""
    closed = select.poll()
    closed.register(cast("IO[bytes]", reader.stderr), 0)  # 0: not what it says, only POLLHUP, its end
    started = time.monotonic()
    while not closed.poll(50):
        begun_ns = log.begun_ns
        if log.ended:
            late = time.monotonic() - started > _START_S + budget_s
        elif begun_ns:
            late = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - begun_ns > (budget_s + _GRACE_S) * 1e9
        else:
            late = time.monotonic() - started > _START_S
        if late:
            return False
    return True


def _end(reader: subprocess.Popen[bytes], ended: bool) -> str:
    """End the reader for certain, if it has not ended; gives the last line it said.

    In a read that not even SIGKILL ends it is left behind: the kernel ends it when that read returns, and it holds nothing of ours.
    """
    try:
        if not ended:
            reader.kill()
        _, said = reader.communicate(timeout=_GRACE_S)
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        cast("IO[bytes]", reader.stderr).close()
        reader.returncode = -signal.SIGKILL  # sent, and not to be waited for
        return ""
