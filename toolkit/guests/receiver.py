"""The host's side of many channels: one asyncio loop, a connection a guest, and a thread that stores.

Each guest is apart. What one sends waits in its own memory, of a bounded size and at a bounded rate; beyond that its socket is not
read, and its own agent waits. A guest that sends nothing, closes, or does not read costs the others nothing.

A record is acknowledged once it is in the store. Until then its agent keeps it, so that a receiver may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import StoreError, UsageError
from toolkit.guests.channel import Counts
from toolkit.guests.flush import Flush, Taken
from toolkit.guests.peer import BYTES_A_SECOND, Connection, Guest, Peer, Status
from toolkit.guests.records import Rows
from toolkit.runs import Run, storable
from toolkit.store import Store

__all__ = ["Guest", "Receiver", "Status"]

_FLUSH_S = 1.0
_AGAIN_S = 1.0
# A guest's name is a folder's or a domain's on this host; nobody's is longer.
_LONGEST_NAME = 255


class Receiver:
    """Receives from guests into a store.

    Parameters
    ----------
    store : Store
        The store.
    run : Run
        The run that the rows belong to.
    bytes_a_second : float or None
        What one guest may send in a second, for long; None for as much as it can.

    Examples
    --------
    >>> import tempfile
    >>> from toolkit.runs import begin
    >>> from toolkit.store import open_store
    >>> async def receive(seconds: float) -> None:
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         receiver = Receiver(open_store(folder), begin("example"))
    ...         receiver.add(Guest("web-1", Path(folder) / "port"))
    ...         await receiver.run(until=asyncio.sleep(seconds))
    ...         print([status.state for status in receiver.status()])
    >>> asyncio.run(receive(0.01))
    ['stopped']
    """

    def __init__(self, store: Store, run: Run, *, bytes_a_second: float | None = BYTES_A_SECOND) -> None:
        self._flush = Flush(store, run)
        self._bytes_a_second = bytes_a_second
        self._held: dict[str, Peer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._writer: ThreadPoolExecutor | None = None
        self._soon: asyncio.Event | None = None
        self._flushing: asyncio.Lock | None = None
        self._ending = False
        self._health_at = 0.0

    def add(self, guest: Guest) -> None:
        """Receive from a guest too; also while it runs.

        Raises
        ------
        UsageError
            If its name is empty, too long, or that of another.
        """
        if not guest.name or len(guest.name) > _LONGEST_NAME or storable(guest.name) != guest.name:
            raise UsageError(f"{guest.name[:300]!r} is no guest's name", "Give one of 1 to 255 letters, in UTF-8.")
        if guest.name in self._held:
            raise UsageError(f"there are two guests {guest.name!r}", "Give each a name of its own.")
        held = self._held[guest.name] = Peer(guest, self._bytes_a_second, self.flush_soon)
        if self._writer is not None:
            self._tasks[guest.name] = asyncio.get_running_loop().create_task(self._keep_connected(held))

    def status(self) -> list[Status]:
        """How each guest's channel is, in the order in which they were added."""
        return [held.status() for held in self._held.values()]

    def flush_soon(self) -> None:
        """Store what there is without waiting for the second to pass."""
        if self._soon is not None:
            self._soon.set()

    async def ask(self, name: str, kind: int, **request: Any) -> dict[str, Any]:
        """Ask a guest's agent for something; its rows go to the store.

        Parameters
        ----------
        name : str
            The guest.
        kind : int
            ``READ_SOURCES`` or ``ALLOCATE`` of :mod:`toolkit.guests.wire`.
        **request
            The fields of that, without ``request``.

        Returns
        -------
        dict
            The end of it, once its rows are stored: ``records``, and ``words``, which is None where it was done.
        """
        held = self._held[name]
        number = secrets.randbits(64)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        held.requests[number] = answer
        held.all_requests.add(number)
        try:
            while not held.channel.ask(kind, request=number, **request):
                await asyncio.sleep(0.1)
            if held.connection is not None:
                held.connection.answer()
            return await answer
        finally:
            held.requests.pop(number, None)

    async def run(self, until: Any, told: Callable[[list[Status]], None] | None = None) -> None:
        """Receive until an awaitable is done; what has come by then is stored.

        Parameters
        ----------
        until : awaitable
            When to end.
        told : callable, optional
            Called with :meth:`status` after each flush.

        Raises
        ------
        StoreError
            If the store cannot be appended to; what was not stored is kept by the agents.
        """
        self._soon, self._flushing, self._ending = asyncio.Event(), asyncio.Lock(), False
        loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="toolkit-receive")
        self._tasks = {name: loop.create_task(self._keep_connected(held)) for name, held in self._held.items()}
        ending = asyncio.ensure_future(until)
        flushing = loop.create_task(self._keep_flushing(told))
        try:
            await asyncio.wait([ending, flushing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (flushing, ending, *self._tasks.values()):
                if not task.done():
                    task.cancel()
            # The first of those that ended by themselves has an error, if there is one.
            ended = await asyncio.gather(flushing, *self._tasks.values(), return_exceptions=True)
            try:
                if not any(isinstance(error, StoreError) for error in ended):
                    self._ending = True
                    await self._flush_now()
                    await self._flush_now()  # what the last one brought up
            finally:
                self._writer.shutdown(wait=True)
                for held in self._held.values():
                    held.stopped = True
                self._writer = self._soon = self._flushing = None
        for error in ended:
            if isinstance(error, Exception):
                raise error
        if ending.done() and not ending.cancelled():
            ending.result()

    # Storing.

    async def _keep_flushing(self, told: Callable[[list[Status]], None] | None) -> None:
        assert self._soon is not None  # noqa: S101 (for the type)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), _FLUSH_S)
            self._soon.clear()
            # Not cancelled half-way: what was taken must be stored.
            await asyncio.shield(self._flush_now())
            if told is not None:
                told(self.status())

    async def _flush_now(self) -> None:
        """Store what there is; a row of ``channel_health`` once a second, and at the end."""
        if self._writer is None or self._flushing is None:
            return
        async with self._flushing:
            now = time.monotonic()
            healthy = self._ending or now - self._health_at >= 0.9 * _FLUSH_S
            taken = [
                (held, Taken.of(held.channel, held.earlier, held.guest.virtio_rng, frozenset(held.all_requests)))
                for held in self._held.values()
            ]
            work = partial(self._flush.store, [one for _, one in taken], healthy=healthy)
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, work)
            finally:
                for held, _ in taken:
                    held.channel.recount_pending()
            for held, one in taken:
                self._account(held, one, healthy=healthy, elapsed_s=now - self._health_at)
            if healthy:
                self._health_at = now

    def _account(self, held: Peer, taken: Taken, *, healthy: bool, elapsed_s: float) -> None:
        """Tell the agent what is stored, and people how many."""
        through = {id(received.session): (received.session, received.first + received.records) for received in taken.pending}
        for session, number in through.values():
            held.channel.stored(session, number)
        if held.connection is not None:
            held.connection.answer()
            held.connection.go_on()
        rows = taken.rows or Rows()
        for anomaly in rows.anomalies:
            held.channel.tell("anomaly", anomaly)
        for done in rows.done:
            answer = held.requests.get(done["request"] or 0)
            if answer is not None and not answer.done():
                answer.set_result(done)
        held.total.add(taken.counts)
        held.earlier.add(taken.counts)
        if healthy:
            held.rate = held.earlier.records / max(elapsed_s, 1e-3)
            held.earlier = Counts()

    # Connecting.

    async def _keep_connected(self, held: Peer) -> None:
        while True:
            given = held.guest.socket
            try:
                await self._connected(held, given)
            except OSError as error:
                held.why = _why(error, given)
            finally:
                held.connection = None
            if isinstance(given, socket.socket):
                held.ended = True
                return
            await asyncio.sleep(_AGAIN_S)

    async def _connected(self, held: Peer, given: Path | socket.socket) -> None:
        """Connect, and come back once that has ended."""
        loop = asyncio.get_running_loop()

        def made() -> Connection:
            held.connection = Connection(held)
            return held.connection

        if isinstance(given, socket.socket):
            transport, connection = await loop.create_unix_connection(made, sock=given)
        else:
            transport, connection = await loop.create_unix_connection(made, str(given))
        try:
            await connection.closed
            held.why = connection.why
        finally:
            transport.abort()


def _why(error: OSError, given: Path | socket.socket) -> str:
    if error.errno == errno.ENOENT:
        return f"{given} is not there: the guest is off, or has no port"
    if error.errno == errno.ECONNREFUSED:
        return f"nobody listens at {given}: the guest has gone"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not connect to {given}: run as root, or as the user that runs the guest"
    return f"{given}: {os.strerror(error.errno) if error.errno else error}"
