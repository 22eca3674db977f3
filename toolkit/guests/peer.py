"""One guest of a receiver: its connection, what it may send, and how it is, for people.

What it sends waits in its own memory, of a bounded size and at a bounded rate; beyond that its socket is not read, and its own
agent waits.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.guests.channel import Channel, Counts

__all__ = ["BYTES_A_SECOND", "Connection", "Guest", "Peer", "Status"]

# A guest's bytes that wait to be stored, and those that it may send in a second, for long: a hundred times what an agent at 1 kHz
# makes, so that one that has kept minutes of it is soon heard out, and a tenth of what one flood takes from all others.
_MOST_PENDING_BYTES = 16 * 1024 * 1024
BYTES_A_SECOND = 2_500_000
# What a second of this process's time counts for, of what a guest may send: a tenth of the time is the most that one guest takes.
BYTES_A_SECOND_OF_TIME = 10 * BYTES_A_SECOND
_BURST_BYTES = 4 * 1024 * 1024
_READ_BYTES = 64 * 1024
# After this long without a hello people are told that there is none.
_SILENT_S = 10.0
# A guest that reads none of its answers is not answered any more.
_MOST_UNREAD_BYTES = 64 * 1024


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
        ``no port`` or ``waiting`` for an agent (with ``why``), ``receiving``, ``slowed`` because it sends too much, ``ended``, or
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
    oddities, last_oddity : int, str
        Anomalies and refusals so far, and what the last was; may hold a guest's own words.
    undelivered : int
        Records that were not delivered yet when this receiver first heard of them.
    """

    guest: str
    state: str
    why: str
    records_per_s: float
    last_seen_s: float | None
    total: Counts
    boot_id: str | None
    oddities: int = 0
    last_oddity: str = ""
    undelivered: int = 0


class Connection(asyncio.BufferedProtocol):
    """A guest's socket: reads into one buffer, and no faster than the guest may send."""

    def __init__(self, held: Peer) -> None:
        self._peer = held
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.why = "the port closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Welcome the guest."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (for the type)
        self.transport = transport
        transport.set_write_buffer_limits(_MOST_UNREAD_BYTES)
        self._peer.connected_at = time.monotonic()
        self._peer.channel.connected()
        self.answer()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio says how it is called)
        """Where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that came, and read no further where the guest has sent too much."""
        peer = self._peer
        began = time.perf_counter()
        peer.channel.feed(self._view[:nbytes])
        # Time counts as bytes do: garbage that is dear to look through is read more slowly yet.
        peer.allowance -= max(nbytes, (time.perf_counter() - began) * BYTES_A_SECOND_OF_TIME)
        self.answer()
        if peer.first_records() or peer.channel.pending_bytes > _MOST_PENDING_BYTES // 2:
            peer.flush_soon()
        if not peer.may_send() and self.transport is not None:
            self.transport.pause_reading()
            peer.slowed = True
            asyncio.get_running_loop().call_later(peer.wait_s(), self.go_on)

    def go_on(self) -> None:
        """Read on, if it may send again."""
        if self.transport is None or self.transport.is_closing() or not self._peer.slowed:
            return
        if self._peer.may_send():
            self._peer.slowed = False
            self.transport.resume_reading()
        else:
            asyncio.get_running_loop().call_later(self._peer.wait_s(), self.go_on)

    def answer(self) -> None:
        """Send what the channel has to say."""
        out = self._peer.channel.take_answers()
        if self.transport is None or self.transport.is_closing() or not out:
            return
        if self.transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            self.why = "it reads nothing of what it is told"
            self.transport.abort()
            return
        self.transport.write(out)

    def connection_lost(self, error: Exception | None) -> None:
        """Remember why it ended."""
        if isinstance(error, OSError) and error.errno:
            self.why = f"the port failed: {os.strerror(error.errno)}"
        self._peer.slowed = False
        self._peer.channel.closed(self.why)
        if not self.closed.done():
            self.closed.set_result(None)


class Peer:
    """A guest with its channel, and what it may send."""

    def __init__(self, guest: Guest, bytes_a_second: float | None, flush_soon: Callable[[], None]) -> None:
        self.guest = guest
        self.flush_soon = flush_soon
        self.channel = Channel(guest.name)
        self.connection: Connection | None = None
        self.total, self.earlier = Counts(), Counts()
        self.rate = 0.0
        self.slowed = self.ended = self.stopped = False
        self.why = "not looked for yet"
        self.connected_at = 0.0
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
        """Whether it may send now, by its rate and by what waits to be stored."""
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
        """How it is, for people."""
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
        why = self.why if state in ("no port", "ended") else ""
        if state == "waiting" and time.monotonic() - self.connected_at > _SILENT_S:
            why = "no agent says anything there: start it in the guest, or look whether another program has the port"
        return Status(
            self.guest.name,
            state,
            why,
            self.rate,
            None if last is None else time.monotonic() - last,
            self.total,
            None if self.channel.session is None else self.channel.session.boot_id,
            self.channel.oddities,
            self.channel.last_oddity,
            self.channel.undelivered,
        )
