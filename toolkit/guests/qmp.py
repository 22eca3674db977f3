"""QEMU's monitor, asked by code that waits for its answer: the library qemu.qmp speaks, in a thread of its own.

The library is made for asyncio, and its form for callers that wait (``qemu.qmp.legacy``) connects without a limit of time and needs
the caller's thread to be free of a loop, which a notebook's is not. So its loop runs beside the caller, who never waits without a
limit and can always be interrupted. What QEMU says is bounded: lines by their length, answers by their time, events by their
number; those that nobody asked for are dropped as they come.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError

from toolkit.errors import LabError
from toolkit.guests.at_once import ASLEEP_S
from toolkit.markup import visible

__all__ = ["Event", "Monitor", "execute"]

_PATIENCE_S = 20.0
# Above that a loop that does not answer at all is given up.
_SLACK_S = 5.0
# Hanging up is a courtesy: what does not listen any more is left alone.
_GOODBYE_S = 2.0
# The greatest answer to what is asked here is a few kB.
_MOST_BYTES = 1 << 20
_MOST_EVENTS = 1000
_SHOWN = 300

# The library says on standard error what it raises too, if nobody has said where its log goes.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

# What comes of a monitor that is gone, or says what cannot be: the library lets most of it through as it is.
_FAILURES = (QMPError, OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Event(NamedTuple):
    """What QEMU said of itself.

    Attributes
    ----------
    name : str
        Such as ``STOP``.
    at_s : float
        When, by the clock of the host, in s since 1970.
    data : dict
        More of it; nothing to be trusted.
    """

    name: str
    at_s: float
    data: dict[str, Any]


class Monitor:
    """A connection to QEMU's monitor. Use as a context manager; QEMU talks to one at a time.

    Parameters
    ----------
    path : Path
        The monitor's socket.
    events : collection of str
        The events to take down; others are dropped.
    timeout_s : float
        How long QEMU may take to greet, and for each answer.

    Raises
    ------
    LabError
        If QEMU does not answer, or says what cannot be understood.
    """

    def __init__(self, path: Path, events: Collection[str] = (), *, timeout_s: float = _PATIENCE_S) -> None:
        self._path = path
        self._names = frozenset(events)
        self._timeout_s = timeout_s
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: QMPClient | None = None
        self._begun = threading.Event()
        self._over: asyncio.Event | None = None

    def __enter__(self) -> Monitor:  # noqa: PYI034 - it is no subclass's
        self._thread = threading.Thread(target=self._run, name=f"qmp {self._path.name}", daemon=True)
        try:
            self._thread.start()
            self._begun.wait(self._timeout_s)
            self._wait(self._connected(), "its greeting", self._timeout_s)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def execute(self, command: str, /, **arguments: Any) -> Any:
        """Give QEMU a command and wait for the answer.

        Parameters
        ----------
        command : str
            Such as ``query-status`` or ``device_add``.
        **arguments
            Its arguments; an underscore stands for the hyphen that QEMU's names may have.

        Raises
        ------
        LabError
            If QEMU refuses, says what cannot be understood, or is gone.
        """
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        client = self._client
        if client is None:
            raise LabError(f"QEMU's monitor was not asked {command}: there is no connection")
        return self._wait(client.execute(command, given), command, self._timeout_s)

    def events(self, name: str) -> list[Event]:
        """Those of a name that came until now, in their order."""
        return [event for event in tuple(self._events) if event.name == name]

    def _run(self) -> None:
        # Cancels what is left, and closes the loop.
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await self._over.wait()
        if self._client is not None:
            with contextlib.suppress(*_FAILURES):
                await asyncio.wait_for(self._client.disconnect(), _GOODBYE_S)

    async def _connected(self) -> None:
        client = QMPClient(self._path.name, _MOST_BYTES)
        client.events.names = set(self._names)
        # The library keeps all that it lets through, without end.
        client.events.event_filter = self._note
        await client.connect(str(self._path))
        self._client = client

    def _note(self, event: Message) -> bool:
        if self._names:
            stamp, data = event.get("timestamp"), event.get("data")
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                at_s = float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6  # type: ignore[index]
                self._events.append(Event(str(event["event"]), at_s, data if isinstance(data, dict) else {}))
        return False

    def _wait(self, work: Coroutine[Any, Any, Any], asked: str, timeout_s: float) -> Any:
        """Let the loop do it, while this thread never sleeps so long that an interrupt would be late."""
        if self._loop is None:
            work.close()
            raise LabError(f"QEMU's monitor cannot be asked for {asked}: the thread for it does not start")
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout_s), self._loop)
        deadline = time.monotonic() + timeout_s + _SLACK_S
        try:
            while not future.done() and time.monotonic() < deadline:
                concurrent.futures.wait([future], ASLEEP_S)
            return future.result(0)
        except ExecuteError as error:
            raise LabError(f"QEMU refuses {asked}: {visible(str(error))}") from error
        except concurrent.futures.CancelledError as error:
            raise _silent(asked, "it closed its monitor") from error
        except TimeoutError as error:
            raise _silent(asked, "timed out") from error
        except _FAILURES as error:
            raise _silent(asked, visible(str(error))[:_SHOWN] or "it closed its monitor") from error
        finally:
            future.cancel()

    def _end(self) -> None:
        if self._loop is not None and self._over is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._over.set)
        if self._thread is not None:
            self._thread.join(_GOODBYE_S + _SLACK_S)


def _silent(asked: str, why: str) -> LabError:
    return LabError(f"QEMU does not answer to {asked} ({why})", "See the guest's console.")


def execute(path: Path, command: str, /, **arguments: Any) -> Any:
    """Give QEMU one command, over a connection of its own: the monitor is free for whoever else asks after it.

    Parameters
    ----------
    path : Path
        The monitor's socket.
    command : str
        Such as ``query-status`` or ``device_add``.
    **arguments
        Its arguments.

    Raises
    ------
    LabError
        If QEMU refuses, says what cannot be understood, or is gone.
    """
    with Monitor(path) as monitor:
        return monitor.execute(command, **arguments)
