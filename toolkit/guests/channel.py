"""One guest's channel as its host sees it: what may be believed of what comes, what is missing, and what is to be answered.

No I/O: bytes in, bytes out, and records by kind. Whatever comes raises nothing and takes bounded memory: a guest owns what it says
of itself, and nothing else.

Every record that an agent made is accounted for once, by its number: received, lost on the way (``lost_records``), or dropped by
the agent because its host was away for too long (``dropped_in_guest``). What comes twice is told by its number too.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from toolkit.guests import wire
from toolkit.guests.wire import LAYOUTS, Decoder, Frame

__all__ = ["ODD", "Channel", "Counts", "Event", "Received", "Session"]

#: What a kernel's boot_id looks like (lib/vsprintf.c, %pU).
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Events that people must hear of.
ODD = ("anomaly", "refused")

# Sessions of a guest that are remembered: more come only of a guest that plays with them.
_MOST_SESSIONS = 16
# States of a generator that are stored of a session: it becomes ready once, and its source may change.
_MOST_STATES = 20
# No agent lives long enough to make more records.
_MOST_RECORDS = 2**48
# What Python keeps beside the bytes of a frame's records.
_OVERHEAD_BYTES = 200
# Of a channel: HELLOs that are answered, and events of a kind that are told, in a stretch of time.
_HELLO_EVERY_S = 0.2
_HASTY = 10
# After this long without a hello, one that sends records is welcomed anew.
_UNGREETED_S = 2.0
_EVENTS = 20
_EVENTS_S = 60.0


class Event(NamedTuple):
    """Something that happened to a channel: when (CLOCK_BOOTTIME and UTC of the host), what, and details for people."""

    t_ns: int
    utc_ns: int
    event: str
    detail: str


@dataclass
class Counts:
    """Of a channel, since they were last taken. Names as in ``channel_health``."""

    frames: int = 0
    records: int = 0
    lost_records: int = 0
    corrupt_frames: int = 0
    dropped_in_guest: int = 0
    repeated_records: int = 0
    refused_records: int = 0
    refused_frames: int = 0
    bytes: int = 0

    def add(self, other: Counts) -> None:
        """Add what another has."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Session:
    """An agent's life, as the channel knows it.

    Attributes
    ----------
    number : int
        Chosen by the agent.
    boot_id : str
        Of the guest that it runs in.
    hello : dict
        What it said of itself, latest.
    expected : int
        The number of the next record.
    stored : int
        All records below it are in the store, or accounted for.
    maybe_stored : int
        Records below it may be in the store already, put there by a receiver that did not come to say so.
    last_t_ns : dict
        Of each kind, the latest record's time: time never runs backwards in a boot.
    state, states : dict or None, int
        Of its generator, the latest; how many there were.
    """

    number: int
    boot_id: str
    hello: dict[str, Any]
    expected: int
    stored: int
    maybe_stored: int
    last_t_ns: dict[int, int] = field(default_factory=dict)
    state: dict[str, Any] | None = None
    states: int = 0


class Received(NamedTuple):
    """Records of one kind that came together, new ones alone; when, by the host's clock."""

    session: Session
    kind: int
    first: int
    records: int
    payload: bytes
    utc_ns: int


class Channel:
    """What one guest says, and what it is answered.

    Parameters
    ----------
    guest : str
        The host's name for it.

    Attributes
    ----------
    pending : list of Received
        To be stored.
    pending_bytes : int
        How much memory that takes.
    events : list of Event
        To be stored.
    counts : Counts
        Since they were last taken.
    session : Session or None
        The one that speaks; None before its hello.
    new_states : list of (Session, dict)
        States of its generator, to be stored.
    last_record_s : float or None
        When a record last came, ``time.monotonic()``.
    oddities, last_oddity : int, str
        Events of :data:`ODD` so far, and what the last was.
    undelivered : int
        Records that the guest's agents said they still had, when they said hello.
    """

    def __init__(self, guest: str) -> None:
        self.guest = guest
        self.pending: list[Received] = []
        self.pending_bytes = 0
        self.events: list[Event] = []
        self.counts = Counts()
        self.session: Session | None = None
        self.new_states: list[tuple[Session, dict[str, Any]]] = []
        self.last_record_s: float | None = None
        self.oddities = 0
        self.last_oddity = ""
        self.undelivered = 0
        self._sessions: OrderedDict[tuple[int, str], Session] = OrderedDict()
        self._decoder = Decoder()
        self._nonce = self._hasty = 0
        self._sequence = 0
        self._hello_at = 0.0
        self._hasty = 0
        self._told: dict[str, list[float]] = {}
        self._untold = 0
        self._out = b""

    def connected(self) -> None:
        """A connection begins."""
        self._decoder = Decoder()
        self._nonce = self._hasty = 0
        self._welcome()

    def closed(self, why: str) -> None:
        """The connection has ended."""
        if self.session is not None:
            self.tell("closed", why)
        self.session = None

    def take_answers(self) -> bytes:
        """Bytes for the guest."""
        out, self._out = self._out, b""
        return out

    def recount_pending(self) -> None:
        """What was taken of ``pending`` is stored, and takes no memory any more."""
        self.pending_bytes = sum(map(_held_bytes, self.pending))

    def feed(self, data: memoryview) -> None:
        """Take what came."""
        self.counts.bytes += len(data)
        before = self._decoder.corrupt_frames
        frames = self._decoder.feed(data)
        self.counts.corrupt_frames += self._decoder.corrupt_frames - before
        if self._decoder.other_version is not None:
            self.tell("refused", f"the agent speaks version {self._decoder.other_version}, and this is version {wire.VERSION}")
            self._decoder.other_version = None
        for frame in frames:
            self._take(frame)

    def stored(self, session: Session, number: int) -> None:
        """All records of a session below a number are in the store: the agent may forget them."""
        session.stored = max(session.stored, number)
        if session is self.session:
            self._answer(wire.ACK, session.number, number=session.stored)

    def ask(self, kind: int, **request: Any) -> bool:
        """Ask the agent to do something; False where none is there."""
        if self.session is None:
            return False
        self._answer(kind, self.session.number, **request)
        return True

    def tell(self, event: str, detail: str) -> None:
        """Remember an event, unless there were too many of late; those are counted, and told with the next."""
        now = time.monotonic()
        if event in ODD:
            self.oddities += 1
            self.last_oddity = detail
        # Each kind by itself, so that one that comes again and again hides no other.
        told = self._told[event] = [when for when in self._told.get(event, ()) if now - when < _EVENTS_S]
        if len(told) >= _EVENTS:
            self._untold += 1
            return
        told.append(now)
        if self._untold:
            detail += f" (and {self._untold:,} events before it)"
            self._untold = 0
        self.events.append(Event(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns(), event, detail))

    def _take(self, frame: Frame) -> None:
        if frame.kind >= wire.WELCOME:
            self._refuse("it sent what only a host sends")
        elif frame.kind == wire.HELLO:
            self._hello(frame)
        elif self.session is None or frame.session != self.session.number:
            # Left over from before this connection's hello, and sent again after it; unless that hello was lost.
            if self.session is None and time.monotonic() - self._hello_at >= _UNGREETED_S:
                self._nonce = 0
                self._welcome()
        elif frame.sequence < self._sequence:
            self._refuse("a frame came twice, or out of order")
        else:
            self._sequence = frame.sequence + 1
            self.counts.frames += 1
            if frame.kind in wire.NUMBERED:
                self._records(self.session, frame)
            elif frame.kind == wire.STATE:
                self._state(self.session, frame)
            else:
                self._ended(frame)

    def _refuse(self, why: str) -> None:
        self.counts.refused_frames += 1
        self.tell("refused", why)

    # What kinds mean.

    def _hello(self, frame: Frame) -> None:
        now = time.monotonic()
        hello = next(LAYOUTS[wire.HELLO].unpack(frame.payload))
        if not self._nonce or hello["answers"] != self._nonce:
            # It had not heard the welcome of this connection; it may be another agent than the one that did.
            if now - self._hello_at >= _HELLO_EVERY_S:
                self._welcome()
            else:
                self._hasty += 1
                # One may cross the welcome on its way.
                self.counts.refused_frames += self._hasty > 1
                if self._hasty in (_HASTY, 100 * _HASTY):
                    self.tell("anomaly", f"it has said hello {self._hasty:,} times without waiting for an answer")
            return
        self._nonce = 0  # a welcome is answered once
        why = _implausible(hello)
        if why is not None:
            self.session = None
            self._refuse(why)
            return
        self._sequence = frame.sequence + 1
        self.counts.frames += 1
        key = (frame.session, hello["boot_id"])
        known = self._sessions.get(key)
        if known is None:
            acknowledged = hello["acknowledged"]
            known = Session(frame.session, hello["boot_id"], hello, acknowledged, acknowledged, hello["made"])
            self._sessions[key] = known
            if len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
            if len({session.boot_id for session in self._sessions.values()}) == _MOST_SESSIONS:
                self.tell("anomaly", f"it has said {_MOST_SESSIONS} boot_ids: it plays with them, or boots again and again")
        self._sessions.move_to_end(key)
        known.hello = hello
        self.session = known
        waiting = max(0, hello["made"] - known.expected)
        self.undelivered += waiting
        self.tell("connected", _introduction(hello, waiting))

    def _state(self, session: Session, frame: Frame) -> None:
        state = next(LAYOUTS[wire.STATE].unpack(frame.payload))
        if state != session.state and session.states < _MOST_STATES:
            session.state = state
            session.states += 1
            self.new_states.append((session, state))

    def _ended(self, frame: Frame) -> None:
        said = next(LAYOUTS[wire.ENDED].unpack(frame.payload))
        made = said["made"] or 0
        if self.session is not None and self.session.expected < made <= _MOST_RECORDS:
            # It ended with records that it had no more time to say.
            self.counts.dropped_in_guest += made - self.session.expected
            self.session.expected = made
        self.tell("ended", f"the agent ended of its own will, after {made:,} records")

    def _records(self, session: Session, frame: Frame) -> None:
        end = frame.first + frame.records
        if end > _MOST_RECORDS:
            self._refuse(f"a record numbered {end:,} cannot be")
            return
        missing = frame.first - session.expected
        if missing > 0:
            # What the agent still holds was lost on the way here; what it does not is gone there.
            dropped = max(0, min(frame.oldest, frame.first) - session.expected)
            self.counts.dropped_in_guest += dropped
            self.counts.lost_records += missing - dropped
        known = min(max(0, -missing), frame.records)
        self.counts.repeated_records += known
        if known == frame.records:
            return
        size = LAYOUTS[frame.kind].struct.size
        payload = frame.payload[known * size :] if known else frame.payload
        session.expected = end
        self.counts.records += frame.records - known
        self.last_record_s = time.monotonic()
        self.pending.append(
            Received(session, frame.kind, end - frame.records + known, frame.records - known, payload, time.time_ns())
        )
        self.pending_bytes += _held_bytes(self.pending[-1])

    # Answers.

    def _welcome(self) -> None:
        self.session = None
        self._hello_at = time.monotonic()
        # The same again where it was not answered: it may only not have come yet.
        self._nonce = self._nonce or secrets.randbits(64) | 1
        self._answer(wire.WELCOME, 0, nonce=self._nonce)

    def _answer(self, kind: int, session: int, **record: Any) -> None:
        self._out += wire.encode(kind, LAYOUTS[kind].pack(**record), session=session)


def _held_bytes(received: Received) -> int:
    return len(received.payload) + _OVERHEAD_BYTES


def _implausible(hello: dict[str, Any]) -> str | None:
    """Why what an agent says of itself cannot be; None where it can."""
    if not _BOOT_ID.fullmatch(hello["boot_id"] or ""):
        return f"its boot_id is none: {(hello['boot_id'] or '')[:36]!r}"
    counts = [hello[name] for name in ("made", "acknowledged", "dropped", "t_ns")]
    if any(count is None or not count >= 0 for count in counts) or hello["acknowledged"] > hello["made"]:
        return "its hello has counts that cannot be"
    if hello["made"] > _MOST_RECORDS:
        return f"it says that it has made {hello['made']:,} records"
    return None


def _introduction(hello: dict[str, Any], waiting: int) -> str:
    detail = (
        f"agent {hello['agent_version']} on Python {hello['python']}, kernel {hello['kernel']}, calls itself {hello['host_name']}"
    )
    if waiting:
        detail += f"; {waiting:,} records were not delivered yet"
    if hello["dropped"]:
        detail += f", {hello['dropped']:,} were dropped there since it began"
    return detail
