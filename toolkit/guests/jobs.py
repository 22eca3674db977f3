"""What a host may ask of an agent: is it allowed, and a process of its own that does it.

The process speaks to its agent as the agent does to the host, in frames, through a pipe; it does one request and ends. It can be
killed, which a read that hangs in the kernel needs. Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from toolkit.errors import ToolkitError
from toolkit.guests.leave import Leave
from toolkit.guests.wire import ALLOCATE, ALLOCATIONS, DISK, LAYOUTS, READ_SOURCES, SOURCE_READS, Decoder, Frame, encode

__all__ = ["Job", "refused"]

# Beyond a request's own limit: an interpreter's start on a busy, emulated guest; to take a file system down; to end.
_START_S = 30.0
_TO_TAKE_DOWN_S = 10.0
_GRACE_S = 0.5
_PR_SET_PDEATHSIG = 1  # of include/uapi/linux/prctl.h
_MIB = 1024 * 1024
# The field that carries it back has 32 bits, and the last of the files is this far behind the first.
_MOST_POSITION = 2**30


def refused(kind: int, asked: dict[str, Any], leave: Leave) -> str | None:
    """Why the agent does not do what is asked; None where it does.

    Parameters
    ----------
    kind : int
        ``READ_SOURCES`` or ``ALLOCATE``.
    asked : dict
        The request's fields.
    leave : Leave
        What is allowed.

    Examples
    --------
    >>> asked = {"source": "getrandom", "block_bytes": 64, "budget_ns": 10**9, "most_reads": 10}
    >>> refused(READ_SOURCES, asked, Leave())
    'reading sources is not allowed: the configuration has no "sources" in allow'
    >>> refused(READ_SOURCES, asked, Leave(allow=("sources",))) is None
    True
    """
    wanted = "sources" if kind == READ_SOURCES else "allocation"
    if any(asked[name] is None for name in asked):
        return "the request is not whole"
    if wanted not in leave.allow:
        what = "reading sources" if kind == READ_SOURCES else "allocating files"
        return f'{what} is not allowed: the configuration has no "{wanted}" in allow'
    return _sources_refused(asked, leave) if kind == READ_SOURCES else _allocation_refused(asked, leave)


def _sources_refused(asked: dict[str, Any], leave: Leave) -> str | None:
    if asked["source"] not in leave.devices:
        return "{} is not among the devices that are allowed: {}".format(asked["source"], ", ".join(leave.devices))
    if not 0 < asked["budget_ns"] <= leave.budget_s * 1e9:
        return "it would take {} s, and {} s are allowed".format(asked["budget_ns"] / 1e9, leave.budget_s)
    if not 0 < asked["block_bytes"] <= _MIB or not 0 < asked["most_reads"] <= 10_000:
        return "blocks of {} bytes, {} times, are beyond 1 MiB or 10,000".format(asked["block_bytes"], asked["most_reads"])
    return None


def _allocation_refused(asked: dict[str, Any], leave: Leave) -> str | None:
    place = asked["place"]
    if place.startswith(DISK):
        if not leave.disk:
            return "a scratch disk is not allowed: the configuration does not say disk = true"
    elif place not in leave.directories:
        return "{} is not among the directories that are allowed: {}".format(place, ", ".join(leave.directories) or "none")
    if not 0 < asked["size_bytes"] <= leave.size_mib * _MIB:
        return "a file of {} bytes is beyond the {} MiB that are allowed".format(asked["size_bytes"], leave.size_mib)
    if not 0 <= asked["position"] <= _MOST_POSITION:
        return "{} is no position".format(asked["position"])
    if not 0 < asked["repeats"] <= leave.files:
        return "{} files are beyond the {} that are allowed".format(asked["repeats"], leave.files)
    return None


class Job:
    """A process that does one request.

    Parameters
    ----------
    kind : int
        ``READ_SOURCES`` or ``ALLOCATE``.
    asked : dict
        The request's fields, allowed.
    leave : Leave
        Its limits.

    Attributes
    ----------
    fd : int
        Readable when :meth:`records` has something.
    request : int
        Whose it is.
    count : int
        Records so far.
    """

    def __init__(self, kind: int, asked: dict[str, Any], leave: Leave) -> None:
        self.request: int = asked["request"]
        self.count = 0
        self.late = self.closed = False
        self._why: str | None = None
        seconds = asked["budget_ns"] / 1e9 if kind == READ_SOURCES else leave.seconds
        self._deadline = time.monotonic() + seconds + _START_S
        # From wherever this package is: a folder, or the one file that it travels in.
        package = str(Path(__file__).absolute().parent.parent.parent)
        search = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-m", "toolkit.guests.jobs", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=search),
            # With -m Python looks for modules where it is started, too, before anywhere else: that must be nobody's folder.
            cwd="/",
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", self._process.stdin) as pipe:
            pipe.write(encode(kind, LAYOUTS[kind].pack(**asked)))
        self._out, self._err = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stderr)
        for stream in (self._out, self._err):
            os.set_blocking(stream.fileno(), False)
        self._decoder = Decoder()
        self.fd = self._out.fileno()

    def records(self) -> tuple[list[Frame], bool]:
        """The frames that came, and whether it has ended: by itself, or because it was late, or had to be left behind."""
        try:
            data = os.read(self.fd, 64 * 1024)
        except BlockingIOError:
            return [], self._ended_late()
        frames = self._decoder.feed(data)
        self.count += sum(frame.records for frame in frames)
        return frames, not data or self._ended_late()

    def is_late(self) -> bool:
        """Whether it has had its time, so that :meth:`records` is to be asked although nothing came."""
        return time.monotonic() > self._deadline

    def _ended_late(self) -> bool:
        """End it in steps if it is late, without waiting: first so that it can take down what it mounted, then for certain."""
        late_s = time.monotonic() - self._deadline
        if late_s < 0:
            return False
        self.late = True
        self._process.send_signal(signal.SIGTERM if late_s < _TO_TAKE_DOWN_S else signal.SIGKILL)
        # One that not even SIGKILL ends is held by the kernel, and ends when it lets go.
        return late_s > 2 * _TO_TAKE_DOWN_S

    def close(self) -> str | None:
        """End it; gives why it failed, None where it did not. It waits for no more than moments."""
        if not self.closed:
            self.closed = True
            for number in (None, signal.SIGTERM, signal.SIGKILL):
                if number is not None:
                    self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_S)
                    break
            self._why = self._failed()
            self._out.close()
            self._err.close()
        return self._why

    def _failed(self) -> str | None:
        if self.late:
            return "it took longer than it may"
        status = self._process.returncode
        return None if status == 0 else self._said() or f"it ended with status {status}"

    def _said(self) -> str:
        try:
            said = os.read(self._err.fileno(), 64 * 1024)
        except OSError:
            return ""
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]


def _source_reads(asked: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    from toolkit.sensors.sources import read_source

    for read in read_source(asked["source"], asked["block_bytes"], asked["budget_ns"] / 1e9, asked["most_reads"]):
        yield SOURCE_READS, dict(read._asdict(), request=asked["request"])


def _allocations(asked: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    from toolkit.guests.scratch_disk import measured

    for row in measured(asked["place"], asked["method"], asked["size_bytes"], asked["repeats"], asked["position"]):
        yield ALLOCATIONS, dict(row, request=asked["request"])


_DOERS: dict[int, Callable[[dict[str, Any]], Iterator[tuple[int, dict[str, Any]]]]] = {
    READ_SOURCES: _source_reads,
    ALLOCATE: _allocations,
}


def _main(parent: str) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return errno.ESRCH  # the agent is gone already

    def leave(_signal: int, _frame: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    (frame,) = Decoder().feed(sys.stdin.buffer.read())
    (asked,) = LAYOUTS[frame.kind].unpack(frame.payload)
    held = b""
    kind = 0
    try:
        for kind, row in _DOERS[frame.kind](asked):
            held += LAYOUTS[kind].pack(**row)
            if len(held) > 16 * 1024:
                sys.stdout.buffer.write(encode(kind, held, first=0))
                held = b""
    except (ToolkitError, OSError) as error:
        print(str(error), file=sys.stderr)  # noqa: T201 (the agent reads it)
        return 1
    finally:
        if held:
            sys.stdout.buffer.write(encode(kind, held, first=0))
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
