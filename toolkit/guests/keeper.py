"""Keeps processes exactly as long as their owner lives: a program of its own, standard library alone, started by :mod:`~.kept`.

The owner may end by SIGKILL, and no handler of its own helps then. So a second process stands between: it starts what is to be
kept, and ends it as soon as the owner shuts the line between them, or is gone. What it started dies with it too (PR_SET_PDEATHSIG),
so that no single end leaves anything running. That alone would not do for the owner: the kernel sends that signal at the end of the
*thread* that forked. It also takes down what its processes print, the last of it and at most :data:`MOST_LOG_BYTES`, so that a
guest that floods its console fills no disk.

Called with the path of an order, {"owner": PID, "folder": PATH, "commands": [[PROGRAM, …], …], "logs": [PATH, …]}, and the line as
its standard input and output. Prints a line of JSON: the pids, or {"error": …, "file": …}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

#: What a log holds at most; when it is full it begins again with the last :data:`_KEPT_BYTES`.
MOST_LOG_BYTES = 1 << 20
_KEPT_BYTES = 1 << 16
_READ_BYTES = 1 << 16

# linux/prctl.h.
_PR_SET_PDEATHSIG = 1


class Log:
    """A file with the last of what a process printed."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._bytes = 0

    def add(self, said: bytes) -> None:
        """Append; begin again with the end of it where it would grow too long."""
        if self._bytes + len(said) > MOST_LOG_BYTES:
            last = os.pread(self._file, _KEPT_BYTES, max(self._bytes - _KEPT_BYTES, 0))
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, last, 0)
            self._bytes = len(last)
        self._bytes += os.pwrite(self._file, said, self._bytes)


def dying_with(keeper: int) -> Callable[[], None]:
    """To be called in the child between fork and exec."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != keeper:
            os._exit(127)

    return prepare


def main() -> None:
    """See the module."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes as long to load as all the rest
        order = json.load(file)
    os.umask(0o077)
    processes: list[subprocess.Popen[bytes]] = []
    abandoned = False
    try:
        owner = os.pidfd_open(order["owner"])
        # If the owner ended before the line above, its number may be another's by now, but never our parent's.
        if os.getppid() == order["owner"]:
            logs = [Log(path) for path in order["logs"]]
            # One by one: those before one that cannot be started are in the list.
            processes.extend(map(_start, order["commands"]))
            _say([process.pid for process in processes])
            abandoned = _keep(owner, processes, logs)
    except OSError as error:
        _say({"error": error.strerror, "file": error.filename})
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        if abandoned or os.getppid() != order["owner"]:
            shutil.rmtree(order["folder"], ignore_errors=True)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    # What runs between fork and exec is safe here: this process has one thread.
    return subprocess.Popen(command, stdin=none, stdout=pipe, stderr=subprocess.STDOUT, preexec_fn=dying_with(os.getpid()))


def _say(what: object) -> None:
    with contextlib.suppress(OSError):  # the owner may be gone
        os.write(1, json.dumps(what).encode() + b"\n")


def _keep(owner: int, processes: list[subprocess.Popen[bytes]], logs: list[Log]) -> bool:
    """Take down what they print until the owner ends it. Those that ended are not waited for: their numbers stay theirs.

    Gives whether the owner ended without a word: while it dies, its end of the line is closed before it stops being our parent.
    """
    poll = select.poll()
    outputs = {process.stdout.fileno(): log for process, log in zip(processes, logs, strict=True) if process.stdout is not None}
    for fd in (0, owner, *outputs):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ready & {0, owner}:
            return 0 not in ready or not os.read(0, 1)
        for fd in ready:
            said = os.read(fd, _READ_BYTES)
            if said:
                outputs[fd].add(said)
            else:
                poll.unregister(fd)


if __name__ == "__main__":
    main()
