"""Whose turn it is to measure allocation on this machine: a mark that an experiment holds while it measures, seen by all others.

The mark is a listening socket with a name in Linux's abstract namespace (unix(7)): no file that could be left behind or lie in
different places, seen by every user, and given back by the kernel however its owner ends. It is seen within one network namespace:
experiments in containers with networks of their own do not see one another. Nobody has to answer: that the name is taken says that
someone measures, and the kernel says who. Another user may hold a name or knock at it, so nothing here trusts what comes, and only
the wait that was asked for blocks.

One name is for whoever measures when nobody else does, a few more are for those who were told to go on beside others. Each takes
its name first and looks at the others' then, so that of two at once at least one sees the other; whoever goes on tells those it
sees, so that their figures are known as disturbed too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from toolkit.errors import BusyWarning, UnavailableError, UsageError
from toolkit.progress import Progress, silent

__all__ = ["IF_BUSY", "Neighbour", "Turn", "check_if_busy", "turn"]

#: What an experiment does while another one measures on this machine.
IF_BUSY = ("wait", "go-on")

_ALONE = "\0virt-toolkit-allocation"
_BESIDE = tuple(f"{_ALONE}-beside-{number}" for number in range(7))

# What somebody who goes on beside us says, rather than only looks who we are.
_WORD = b"beside"
# As many may knock before we look; the kernel turns away the next.
_KNOCKS = 128

# A wait ends when the kernel says that the other let go; since the other may not be honest it also looks again now and then.
_PATIENCE_S = 10.0
_PAUSE_S = 0.1

# struct ucred of unix(7): pid, uid, gid.
_UCRED = struct.Struct("=iII")


class Neighbour(NamedTuple):
    """Who runs another experiment: its process and user, each None where the kernel does not say."""

    pid: int | None
    uid: int | None

    def __str__(self) -> str:
        # 0: a process of another PID namespace.
        name = f"process {self.pid}" if self.pid else "a process that cannot be seen from here"
        return name if self.uid in (None, os.geteuid()) else f"{name} of user {self.uid}"


class _Answer(NamedTuple):
    """A name that is taken: by whom, and the line to them, which breaks when they let go; None where they take no more."""

    neighbour: Neighbour
    line: socket.socket | None


_NO_ANSWER = _Answer(Neighbour(None, None), None)


class Turn:
    """The mark while it is held, and who measured meanwhile.

    A class because others may come later: they knock at the mark, and are found when somebody asks.

    Attributes
    ----------
    unseen : str or None
        Why it cannot be told who else measures; None where it can.
    """

    def __init__(self, mark: socket.socket | None, neighbours: Sequence[Neighbour] = (), unseen: str | None = None) -> None:
        self._mark = mark
        self._neighbours = list(neighbours)
        self._thread = threading.get_ident()
        self.unseen = unseen

    def neighbours(self) -> list[Neighbour]:
        """Who measured on this machine at the same time, as far as is known by now."""
        if self._mark is not None:
            self._neighbours += _knocked(self._mark)
        return list(dict.fromkeys(self._neighbours))

    def of_this_thread(self) -> bool:
        """Whether it is held by whoever asks, who could only wait for it in vain."""
        return self._thread == threading.get_ident()

    def end(self) -> None:
        """Let the mark go."""
        if self._mark is not None:
            self._mark.close()
            self._mark = None


#: Those of this process.
_held: list[Turn] = []


def _end_after_fork() -> None:
    """In a forked child: the mark is its parent's, and must not outlive it here."""
    for each in _held:
        each.end()
    _held.clear()


os.register_at_fork(after_in_child=_end_after_fork)


def check_if_busy(if_busy: str) -> None:
    """Refuse what is not one of :data:`IF_BUSY`.

    Raises
    ------
    UsageError
        The message lists those there are.
    """
    if if_busy not in IF_BUSY:
        raise UsageError(f"{if_busy!r} is nothing to do if the machine is busy", f"Give one of: {', '.join(IF_BUSY)}.")


@contextlib.contextmanager
def turn(if_busy: str = "wait", progress: Progress = silent) -> Iterator[Turn]:
    """Hold this machine's mark for the time of a ``with`` block, in which an allocation experiment measures.

    Parameters
    ----------
    if_busy : str
        ``wait``: begin when nobody else on this machine measures any more. ``go-on``: begin at once.
    progress : Progress
        Told that it waits.

    Yields
    ------
    Turn

    Warns
    -----
    BusyWarning
        If another experiment is measuring: that each disturbs the other's figures, and what is done about it. At once, not at
        the end of a wait.

    Raises
    ------
    UsageError
        If ``if_busy`` cannot be meant, or it would wait for itself.
    UnavailableError
        If as many go on beside each other already as there are names for.

    Examples
    --------
    >>> with turn() as mine:
    ...     print(mine.neighbours())
    []
    """
    check_if_busy(if_busy)
    mine = _begun(if_busy, progress)
    _held.append(mine)
    try:
        yield mine
    finally:
        mine.end()
        if mine in _held:
            _held.remove(mine)


def _begun(if_busy: str, progress: Progress) -> Turn:
    try:
        return _waited(progress) if if_busy == "wait" else _went_on()
    except OSError as error:
        # A sandbox without such sockets, or no descriptor left: no reason not to measure.
        return Turn(None, unseen=error.strerror or str(error))


def _waited(progress: Progress) -> Turn:
    """Take the first name once it is free, and begin when nobody is beside any more."""
    if any(each.of_this_thread() for each in _held):
        raise UsageError(
            "this program runs an allocation experiment already, and would wait for itself",
            "End that one first, or go on beside it (if_busy='go-on').",
        )
    told = False
    mark = _taken(_ALONE)
    try:
        while True:
            busy = _in_the_way(mark)
            if mark is not None and busy is None:
                break
            neighbour, line = busy or _NO_ANSWER
            with line or contextlib.nullcontext():
                if not told:
                    _say(neighbour, "this one waits until it ends (to measure beside it: --if-busy go-on, or if_busy='go-on')")
                    progress(0, 1, f"waiting until the allocation experiment of {neighbour} ends")
                    told = True
                _wait(line)
            mark = mark or _taken(_ALONE)
        # Who went on beside us while we waited has ended since.
        _knocked(mark)
    except BaseException:
        if mark is not None:
            mark.close()
        raise
    return Turn(mark)


def _in_the_way(mark: socket.socket | None) -> _Answer | None:
    """Who measures, for somebody who waits: the owner of the first name, and once that is ours, any beside."""
    if mark is None:
        return _answer(_ALONE)
    return next(filter(None, map(_answer, _BESIDE)), None)


def _wait(line: socket.socket | None) -> None:
    """Until whoever is at the other end of the line lets go; for a moment, where there is no line."""
    if line is not None:
        poll = select.poll()
        poll.register(line, 0)  # POLLHUP and POLLERR are always told
        poll.poll(_PATIENCE_S * 1000)
    time.sleep(_PAUSE_S)


def _went_on() -> Turn:
    """Take the first name that is free, and tell whoever has another."""
    for name in (_ALONE, *_BESIDE):
        mark = _taken(name)
        if mark is not None:
            break
    else:
        already = f"{len(_BESIDE) + 1} allocation experiments measure beside each other on this machine already"
        raise UnavailableError(already, "Wait until one ends.")
    try:
        neighbours = []
        for other in (_ALONE, *_BESIDE):
            if other != name and (answer := _answer(other, _WORD)) is not None:
                neighbours.append(answer.neighbour)
                if answer.line is not None:
                    answer.line.close()  # what was said on it can still be heard
        if neighbours:
            _say(neighbours[0], "this one goes on beside it, as told")
    except BaseException:
        mark.close()
        raise
    return Turn(mark, neighbours)


def _say(neighbour: Neighbour, what_follows: str) -> None:
    said = f"Another allocation experiment ({neighbour}) is measuring on this machine, and each would disturb the other's figures"
    warnings.warn(BusyWarning(f"{said}: {what_follows}."), stacklevel=2)


def _taken(name: str) -> socket.socket | None:
    """The name as ours; None while another has it."""
    mark = _socket()
    try:
        mark.bind(name)
        mark.listen(_KNOCKS)
    except BaseException as error:
        mark.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return None
        raise
    return mark


def _answer(name: str, word: bytes = b"") -> _Answer | None:
    """Who has a name, told a word; None if nobody has, or has only just begun to take it, and looks at ours next."""
    line = _socket()
    try:
        line.connect(name)
        with contextlib.suppress(OSError):  # they may be ending just now
            line.send(word, socket.MSG_NOSIGNAL)
        return _Answer(_peer(line), line)
    except BlockingIOError:
        # So many have knocked that the kernel turns us away.
        line.close()
        return _NO_ANSWER
    except ConnectionRefusedError:
        line.close()
        return None
    except BaseException:
        line.close()
        raise


def _knocked(mark: socket.socket) -> list[Neighbour]:
    """Who told us that they go on beside us, since we last looked."""
    found = []
    for _ in range(_KNOCKS):
        try:
            line, _where = mark.accept()
        except OSError:
            # EAGAIN: nobody else. No descriptor left to hear them with: they are still there when somebody asks again.
            break
        with line:
            line.setblocking(False)
            with contextlib.suppress(OSError):
                if line.recv(len(_WORD)) == _WORD:
                    found.append(_peer(line))
    return found


def _peer(line: socket.socket) -> Neighbour:
    pid, uid, _gid = _UCRED.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Neighbour(pid, uid)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
