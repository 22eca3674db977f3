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
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toolkit.errors import StoreError, UsageError
from toolkit.guests.channel import Channel, Counts
from toolkit.guests.flush import Flush, Taken
from toolkit.guests.records import Rows
from toolkit.runs import Run, storable
from toolkit.store import Store

__all__ = ["Guest", "Receiver", "Status"]

_FLUSH_S = 1.0
_AGAIN_S = 1.0
# A guest's bytes that wait to be stored, and those that it may send in a second, for long: a hundred times what an agent at 1 kHz
# makes, so that one that has kept minutes of it is soon heard out, and a tenth of what one flood takes from all others.
_MOST_PENDING_BYTES = 16 * 1024 * 1024
BYTES_A_SECOND = 2_500_000
# What a second of this process's time counts for, of what a guest may send: a tenth of the time is the most that one guest takes.
BYTES_A_SECOND_OF_TIME = 10 * BYTES_A_SECOND
_BURST_BYTES = 4 * 1024 * 1024
_READ_BYTES = 64 * 1024
# A guest that reads none of its answers is not answered any more.
_MOST_UNREAD_BYTES = 64 * 1024
# A guest's name is a folder's or a domain's on this host; nobody's is longer.
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Guest:
    """A guest to receive from.

    Attributes
    ----------
    name : str
        What this host calls it, and what the store will. What it calls itself is not believed.
    socket : Path or socket
        The host's end of its port: a unix socket's path, which is connected to again whenever it closes, or one that is connected.
    virtio_rng : dict
        What the host knows of its device: ``virtio_rng_backend``, ``virtio_rng_max_bytes``, ``virtio_rng_period_ms``.
    """

    name: str
    socket: Path | socket.socket
    virtio_rng: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """How a guest's channel is.

    Attributes
    ----------
    guest : str
        Its name.
    state : str
        ``no port`` (with ``why``), ``waiting`` for an agent, ``receiving``, ``slowed`` because it sends too much, ``ended``, or
        ``stopped``: the receiver no longer runs.
    why : str
        More about it; may hold a guest's own words.
    records_per_s : float
        Stored in the last second.
    last_seen_s : float or None
        Since the last record; None where there was none.
    total : Counts
        Since the receiver began.
    boot_id : str or None
        Of the guest that speaks.
    """

    guest: str
    state: str
    why: str
    records_per_s: float
    last_seen_s: float | None
    total: Counts
    boot_id: str | None


class _Connection(asyncio.BufferedProtocol):
    """A guest's socket: reads into one buffer, and no faster than the guest may send."""

    def __init__(self, held: _Held) -> None:
        self._held = held
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.why = "the port closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (for the type)
        self.transport = transport
        transport.set_write_buffer_limits(_MOST_UNREAD_BYTES)
        self._held.channel.connected()
        self.answer()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio says how it is called)
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        held = self._held
        began = time.perf_counter()
        held.channel.feed(self._view[:nbytes])
        # Time counts as bytes do: garbage that is dear to look through is read more slowly yet.
        held.allowance -= max(nbytes, (time.perf_counter() - began) * BYTES_A_SECOND_OF_TIME)
        self.answer()
        if held.first_records() or held.channel.pending_bytes > _MOST_PENDING_BYTES // 2:
            held.receiver.flush_soon()
        if not held.may_send() and self.transport is not None:
            self.transport.pause_reading()
            held.slowed = True
            asyncio.get_running_loop().call_later(held.wait_s(), self.go_on)

    def go_on(self) -> None:
        """Read on, if it may send again."""
        if self.transport is None or self.transport.is_closing() or not self._held.slowed:
            return
        if self._held.may_send():
            self._held.slowed = False
            self.transport.resume_reading()
        else:
            asyncio.get_running_loop().call_later(self._held.wait_s(), self.go_on)

    def answer(self) -> None:
        """Send what the channel has to say."""
        out = self._held.channel.take_answers()
        if self.transport is None or self.transport.is_closing() or not out:
            return
        if self.transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            self.why = "it reads nothing of what it is told"
            self.transport.abort()
            return
        self.transport.write(out)

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, OSError) and error.errno:
            self.why = f"the port failed: {os.strerror(error.errno)}"
        self._held.slowed = False
        self._held.channel.closed(self.why)
        if not self.closed.done():
            self.closed.set_result(None)


class _Held:
    """A guest with its channel, and what it may send."""

    def __init__(self, receiver: Receiver, guest: Guest, bytes_a_second: float | None) -> None:
        self.receiver = receiver
        self.guest = guest
        self.channel = Channel(guest.name)
        self.connection: _Connection | None = None
        self.total = Counts()
        self.rate = 0.0
        self.slowed = self.ended = self.stopped = False
        self.why = "not looked for yet"
        self.requests: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.all_requests: set[int] = set()
        self._per_s = bytes_a_second
        self.allowance = float(_BURST_BYTES)
        self._since = time.monotonic()
        self._had_records: set[int] = set()

    def first_records(self) -> bool:
        """Whether these are the first records of a session, which are stored at once."""
        session = self.channel.session
        if session is None or not self.channel.pending or id(session) in self._had_records:
            return False
        self._had_records = {id(session)}
        return True

    def may_send(self) -> bool:
        now = time.monotonic()
        if self._per_s is not None:
            self.allowance = min(_BURST_BYTES, self.allowance + (now - self._since) * self._per_s)
        else:
            self.allowance = _BURST_BYTES
        self._since = now
        return self.allowance > 0 and self.channel.pending_bytes < _MOST_PENDING_BYTES

    def wait_s(self) -> float:
        """How long until it is worth looking whether it may send again."""
        if self._per_s is None or self.allowance > 0:
            return 0.02
        return min(1.0, 0.02 - self.allowance / self._per_s)

    def status(self) -> Status:
        last = self.channel.last_record_s
        if self.stopped:
            state = "stopped"
        elif self.ended:
            state = "ended"
        elif self.connection is None:
            state = "no port"
        elif self.slowed:
            state = "slowed"
        else:
            state = "waiting" if self.channel.session is None else "receiving"
        return Status(
            self.guest.name,
            state,
            self.why if state in ("no port", "ended") else "",
            self.rate,
            None if last is None else time.monotonic() - last,
            self.total,
            None if self.channel.session is None else self.channel.session.boot_id,
        )


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
        self._held: dict[str, _Held] = {}
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
        held = self._held[guest.name] = _Held(self, guest, self._bytes_a_second)
        if self._writer is not None:
            self._tasks[guest.name] = asyncio.get_running_loop().create_task(self._keep_connected(held))

    async def remove(self, name: str) -> None:
        """Receive from a guest no longer; what it had sent is stored."""
        held, task = self._held[name], self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._flush_now()
        del self._held[held.guest.name]

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
                (held, Taken.of(held.channel, held.guest.virtio_rng, frozenset(held.all_requests))) for held in self._held.values()
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

    def _account(self, held: _Held, taken: Taken, *, healthy: bool, elapsed_s: float) -> None:
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
        if healthy:
            held.rate = taken.counts.records / max(elapsed_s, 1e-3)
            held.total.add(taken.counts)
        else:
            held.channel.counts.add(taken.counts)  # for the row that is due next

    # Connecting.

    async def _keep_connected(self, held: _Held) -> None:
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

    async def _connected(self, held: _Held, given: Path | socket.socket) -> None:
        """Connect, and come back once that has ended."""
        loop = asyncio.get_running_loop()

        def made() -> _Connection:
            held.connection = _Connection(held)
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
