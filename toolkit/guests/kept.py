"""Processes that end with a ``with`` block, however it ends: the owner's side of :mod:`toolkit.guests.keeper`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from toolkit.errors import LabError
from toolkit.guests import keeper
from toolkit.signals import Signals

__all__ = ["LAST_WORDS_S", "Kept", "Process"]

#: How long what a process printed last may take from its end to its log.
LAST_WORDS_S = 2.0

# Killing takes a moment; a process that is waiting for a disk takes as long as the disk.
_PATIENCE_S = 20.0


@dataclass
class Process:
    """One of them.

    Attributes
    ----------
    pid : int
        Its number, which stays its own until the block ends.
    log : Path
        The last of what it printed; gone after the block.
    """

    pid: int
    log: Path
    _handle: int = field(repr=False)

    def ended(self, timeout_s: float = 0.0) -> bool:
        """Whether it has ended; waits for that as long as is said."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def let_finish(self) -> None:
        """Wait for its end, and until all that it printed is taken down: its keeper may do that a moment later."""
        self.ended(LAST_WORDS_S)
        deadline, before = time.monotonic() + LAST_WORDS_S, -1
        while time.monotonic() < deadline:
            there = self.log.stat().st_size if self.log.exists() else 0
            if there and there == before:
                return
            before = there
            time.sleep(LAST_WORDS_S / 8)


class Kept:
    """Start programs for the time of a ``with`` block. No error and no signal to this process, not even SIGKILL, leaves any.

    Parameters
    ----------
    commands : sequence of sequence of str
        The programs with their arguments.
    logs : sequence of Path
        Where what each prints is taken down, in the same order.
    folder : Path
        A private folder; if this process is killed, it is removed with all in it.

    Raises
    ------
    LabError
        If one cannot be started.
    """

    def __init__(self, commands: Sequence[Sequence[str]], logs: Sequence[Path], folder: Path) -> None:
        self._commands = commands
        self._logs = logs
        self._folder = folder
        self._signals = Signals()
        self._owner = os.getpid()
        self._line: socket.socket | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._handles: list[int] = []

    def __enter__(self) -> list[Process]:
        self._signals.begin()
        try:
            self._signals.hold()
            found = self._start()
            self._signals.resume()
        except BaseException as error:
            self._end(type(error))
            raise
        return found

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # The last moment at which a signal may still raise is before this line has run; then the finally clause ends them.
            self._signals.hold()
        finally:
            self._end(kind)

    def _start(self) -> list[Process]:
        order = self._folder / "order.json"
        logs = [str(path) for path in self._logs]
        content = {"owner": os.getpid(), "folder": str(self._folder), "commands": self._commands, "logs": logs}
        order.write_text(json.dumps(content), encoding="utf-8")
        self._line, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C at the terminal is for us, and what we keep ends when we say so.
            command = [sys.executable, "-I", "-S", keeper.__file__, str(order)]
            self._keeper = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
        with self._line.makefile("rb") as said:
            answer = json.loads(said.readline() or b'{"error": "its keeper ended", "file": null}')
        order.unlink()
        if isinstance(answer, dict):
            raise LabError(f"{answer['file'] or self._commands[0][0]!r} cannot be started: {answer['error']}")
        for pid in answer:
            self._handles.append(os.pidfd_open(pid))
        return [Process(*each) for each in zip(answer, self._logs, self._handles, strict=True)]

    def _end(self, kind: type[BaseException] | None) -> None:
        self._signals.hold()
        try:
            while self._handles:
                os.close(self._handles.pop())
            # In a forked child all this is its parent's.
            if os.getpid() == self._owner:
                self._shut()
        finally:
            self._signals.end(ending=kind is not None and not issubclass(kind, Exception))

    def _shut(self) -> None:
        if self._line is not None:
            with self._line, contextlib.suppress(OSError):  # the keeper may have ended
                self._line.send(b".")  # else the keeper takes us for killed, and removes the folder
                # Not only closed: a child forked from this process meanwhile holds the line too.
                self._line.shutdown(socket.SHUT_RDWR)
        if self._keeper is not None:
            try:
                self._keeper.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                # What it keeps dies with it.
                self._keeper.kill()
                self._keeper.wait()
