"""The agent: runs in a guest, looks at its entropy pool, and tells its host through a virtio-serial port.

It says HELLO whenever a host is there, and is answered with a WELCOME that carries a number of its own (a nonce). Then it says
HELLO again with that number, its generator's state, and all records that it holds, oldest first; the host acknowledges what it has
stored, and only that is forgotten. What lies in between, on either side of a host that went away, is thereby of no account: bytes
cut off, left over, or said to another host.

It waits in one place, for the timer, the port and its job at once, and never in a read or write of the port. It does for its host
what its configuration allows (:mod:`toolkit.guests.leave`), in a process of its own (:mod:`toolkit.guests.jobs`).
Standard library only, Python 3.8 and later. ``python3 agent.pyz --help`` says how it is started.
"""

from __future__ import annotations

import contextlib
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from toolkit._version import __version__
from toolkit.errors import ToolkitError, UsageError
from toolkit.guests import introduction, wire
from toolkit.guests import leave as leaves
from toolkit.guests.leave import Leave
from toolkit.guests.port import DescriptorPort, Port
from toolkit.guests.ring import Ring
from toolkit.guests.wire import LAYOUTS
from toolkit.sensors.look import Look, RawLooks
from toolkit.sensors.system import SystemLook
from toolkit.sensors.ticks import Ticks

if TYPE_CHECKING:
    from toolkit.guests.jobs import Job

__all__ = ["Agent", "main"]

_DEFAULT_EVERY_MS = 100.0
#: Memory for what the host has not stored: half an hour at 10 Hz, more than a minute at 1 kHz.
RING_BYTES = 2 * 1024 * 1024
_KIB = 1024
_LEAST_RING_KIB, _MOST_RING_KIB = 4, 1024 * 1024

_NS_PER_S = 10**9
# How long looks wait for others to be sent with them; how long a row of looks may take, during which nothing else is done.
_BATCH_NS = 500_000_000
_ROW_NS = 100_000_000
_SYSTEM_NS = 1_000_000_000
# How often a host or port that is away is looked for, and how often a HELLO that nobody answered is said again.
_LOOK_FOR_HOST_NS = 200_000_000
_OPEN_AGAIN_NS = 1_000_000_000
_HELLO_AGAIN_NS = 1_000_000_000
# Reading the state costs tens of milliseconds: a host may ask for it by saying WELCOME again and again.
_STATE_NS = 5_000_000_000
_MOST_WAITING = 4
# How long an agent that is told to end goes on saying what it holds.
_LAST_WORDS_S = 1.0

_SAMPLE = LAYOUTS[wire.SAMPLES].struct


class Agent:
    """Looks, keeps, tells, until it is ended.

    Parameters
    ----------
    port : Port
        The way to the host.
    interval_ns : int
        Between two looks; a millisecond at least.
    leave : Leave
        What it may do for the host.
    ring_bytes : int
        Memory for what the host has not stored.
    """

    def __init__(self, port: Port, interval_ns: int, leave: Leave, ring_bytes: int = RING_BYTES) -> None:
        self.port = port
        self.ring = Ring(ring_bytes)
        self._interval_ns = interval_ns
        self._leave = leave
        self._session = introduction.new_session()
        self._ending = False
        self._out = memoryview(b"")
        self._decoder = wire.Decoder()
        self._host = self._welcomed = self._hello_due = False
        self._nonce = 0
        self._sequence = 0
        self._due = dict.fromkeys(("open", "look", "hello", "batch", "system", "state"), 0)
        self._raw: list[RawLooks] = []
        self._ready: bool | None = None
        self._state = b""
        self._state_due = False
        self._jobs: list[tuple[int, dict[str, Any]]] = []
        self._job: Job | None = None
        self._system = SystemLook()

    def end(self, *_: Any) -> None:
        """Have it end soon, with what it holds sent as far as that goes at once; also as the handler of a signal."""
        self._ending = True

    def run(self) -> None:
        """Go on until :meth:`end` is called, or a port that does not come back has ended."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.port.close)
            stack.callback(self._end_job)
            look = stack.enter_context(Look())
            ticks = stack.enter_context(Ticks(self._interval_ns))
            while not (self._ending or self.port.ended):
                self._see_to_port()
                events = self._wait(ticks)
                if ticks.fd in events:
                    look.series(ticks, max(1, _ROW_NS // self._interval_ns // 2), self._raw)
                self._keep()
                if (self._job is not None and self._job.fd in events) or self._job_is_late():
                    self._take_from_job()
            self._keep(at_once=True)
            self._say_ended()

    # The port.

    def _wait(self, ticks: Ticks) -> set[int]:
        poll = select.poll()
        poll.register(ticks.fd, select.POLLIN)
        # While the host is away poll would say so at once, each time; it is looked for instead.
        if self.port.fd is not None and self._host:
            more = self._out or (self._welcomed and (self._state_due or self.ring.next() is not None))
            poll.register(self.port.fd, select.POLLIN | (select.POLLOUT if more else 0))
        if self._job is not None:
            poll.register(self._job.fd, select.POLLIN)
        # A host that is there wakes it; thirty idle agents that woke five times a second each would fill an emulated processor.
        looks_for_host = self.port.fd is not None and not self._host
        wait_ns = _LOOK_FOR_HOST_NS if looks_for_host else _OPEN_AGAIN_NS
        return {fd for fd, _ in poll.poll(wait_ns // 1_000_000)}

    def _see_to_port(self) -> None:
        """Open it, find the host, hear and say what can be heard and said now."""
        if self.port.fd is None:
            self._lost_host()
            if not self._is_due("open", _OPEN_AGAIN_NS) or not self.port.open():
                return
        if not self._host and self._is_due("look", _LOOK_FOR_HOST_NS):
            if self.port.host_is_there():
                self._host = True
                self._due["hello"] = 0
            else:
                self.port.hear()  # which finds out whether the port itself is gone
        if not self._host:
            return
        heard = self.port.hear()
        if heard.said:
            self._hear(self._decoder.feed(heard.said))
        if not heard.host:
            self._lost_host()
            return
        if not self._welcomed and not self._out and self._is_due("hello", _HELLO_AGAIN_NS):
            self._hello_due = True
        self._say()

    def _lost_host(self) -> None:
        if self._host or self._welcomed:
            self._decoder = wire.Decoder()
            self._out = memoryview(b"")
            self._host = self._welcomed = self._hello_due = False
            self._nonce = 0

    def _say(self) -> None:
        """Write until the port takes no more: first what is under way, then a hello, the state, and records."""
        for _ in range(64):  # then looks come first again, however fast the host reads
            if not self._out:
                self._out = memoryview(self._next())
                if not self._out:
                    return
            wrote = self.port.say(self._out)
            if not wrote:
                return
            self._out = self._out[wrote:]

    def _next(self) -> bytes:
        if self._hello_due:
            self._hello_due = False
            return self._hello()
        if not self._welcomed:
            return b""
        batch = self.ring.next()
        if batch is not None:
            self.ring.sent()
            return self._frame(batch.kind, batch.payload, batch.first)
        if self._state_due:
            # After the records: reading it takes seconds in a guest that is emulated.
            self._state_due = False
            if not self._state or self._is_due("state", _STATE_NS):
                self._state = introduction.state()
            return self._frame(wire.STATE, self._state)
        return b""

    def _frame(self, kind: int, payload: bytes, first: int = wire.NO_NUMBER) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        return wire.encode(kind, payload, session=self._session, sequence=sequence, first=first, oldest=self.ring.oldest)

    def _hello(self) -> bytes:
        self._sequence = 0
        of_its_own = {"answers": self._nonce, "interval_ns": self._interval_ns, "allows": " ".join(self._leave.allow)}
        return self._frame(wire.HELLO, LAYOUTS[wire.HELLO].pack(**of_its_own, **self._counts(), **introduction.of_guest()))

    def _counts(self) -> dict[str, int]:
        return {"made": self.ring.made, "acknowledged": self.ring.acknowledged, "dropped": self.ring.dropped}

    # What the host says.

    def _hear(self, frames: list[wire.Frame]) -> None:
        welcome: int | None = None
        for frame in frames:
            if frame.kind == wire.WELCOME:
                welcome = next(LAYOUTS[wire.WELCOME].unpack(frame.payload))["nonce"]
            elif frame.session != self._session:
                continue  # for an agent that was here before
            elif frame.kind == wire.ACK:
                for record in LAYOUTS[wire.ACK].unpack(frame.payload):
                    self.ring.acknowledge(record["number"] or 0)
            elif frame.kind in (wire.READ_SOURCES, wire.ALLOCATE):
                for asked in LAYOUTS[frame.kind].unpack(frame.payload):
                    self._asked(frame.kind, asked)
        if welcome and welcome != self._nonce:
            self._nonce = welcome
            self._welcomed = True
            self.ring.again()
            # What is under way is finished first, so that the host finds where the next frame begins. However many welcomes come
            # of a host that reads nothing, one hello waits for it.
            self._hello_due = self._state_due = True

    def _asked(self, kind: int, asked: dict[str, Any]) -> None:
        # What only a request needs: an emulated processor takes a second to load it.
        from toolkit.guests.jobs import refused

        why = refused(kind, asked, self._leave)
        if why is None and len(self._jobs) >= _MOST_WAITING:
            why = f"{_MOST_WAITING} requests are waiting already"
        if why is not None:
            self._done(asked["request"] or 0, 0, "refused: " + why)
            return
        self._jobs.append((kind, asked))
        self._start_job()

    def _start_job(self) -> None:
        from toolkit.guests.jobs import Job

        while self._job is None and self._jobs:
            kind, asked = self._jobs.pop(0)
            try:
                self._job = Job(kind, asked, self._leave)
            except OSError as error:
                self._done(asked["request"], 0, f"no process could be started: {error.strerror}")

    def _job_is_late(self) -> bool:
        return self._job is not None and self._job.is_late()

    def _take_from_job(self) -> None:
        if self._job is None:
            return
        frames, ended = self._job.records()
        for frame in frames:
            self.ring.put(frame.kind, frame.payload)
        if ended:
            job, self._job = self._job, None
            why = job.close()
            self._done(job.request, job.count, None if why is None else "failed: " + why)
            self._start_job()

    def _end_job(self) -> None:
        if self._job is not None:
            self._job.close()

    def _done(self, request: int, records: int, words: str | None) -> None:
        self.ring.put(wire.DONE, LAYOUTS[wire.DONE].pack(request=request, records=records, errno=None, words=words))

    # What it sees.

    def _keep(self, at_once: bool = False) -> None:
        """Put looks that have waited long enough, and one at the machine a second, into the ring."""
        if self._raw and (at_once or self._is_due("batch", _BATCH_NS)):
            raw, self._raw = self._raw, []
            records = [looked[1:] for row in raw for looked in Look.looked(row)]
            ready = records[-1][3]
            if ready and self._ready is False:
                self._state, self._state_due = b"", True
            self._ready = ready
            self.ring.put(wire.SAMPLES, b"".join(map(_packed, records)))
        if self._is_due("system", _SYSTEM_NS):
            when = {"t_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME), "utc_ns": time.time_ns()}
            self.ring.put(wire.SYSTEM, LAYOUTS[wire.SYSTEM].pack(**when, **self._system()._asdict()))

    def _say_ended(self) -> None:
        """Say all that there is, as far as that goes in a moment, and then that this was all: the host counts what is missing."""
        self._state_due = False
        deadline = time.monotonic() + _LAST_WORDS_S
        while self._welcomed and self.port.fd is not None and time.monotonic() < deadline:
            self._say()
            if not self._out and self.ring.next() is None:
                self.port.say(memoryview(self._frame(wire.ENDED, LAYOUTS[wire.ENDED].pack(**self._counts()))))
                return
            if self.port.fd is not None:
                poll = select.poll()
                poll.register(self.port.fd, select.POLLOUT)
                poll.poll(100)

    def _is_due(self, what: str, every_ns: int) -> bool:
        """Whether it is time for that, which makes it due again only then."""
        now = time.monotonic_ns()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_ns
        return True


def _packed(record: tuple[int, int, int | None, bool | None, bool | None]) -> bytes:
    t_ns, utc_ns, bits, ready, readable = record
    null = wire.NULL
    return _SAMPLE.pack(
        t_ns, utc_ns, null if bits is None else bits, null if ready is None else ready, null if readable is None else readable, b""
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the agent as a program; gives the exit status."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="agent.pyz",
        description="Looks at this machine's entropy pool and tells its host through a virtio-serial port.",
        epilog="Example:  python3 agent.pyz --every-ms 100 --config /etc/virt-toolkit-agent.toml\n\n"
        "A configuration that allows what there is:\n\n" + leaves.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", default="/dev/virtio-ports/" + wire.PORT_NAME, help="the port, or fd:N [%(default)s]")
    parser.add_argument("--every-ms", type=float, help="milliseconds between looks, 1 or more [%(default)s: 100]")
    parser.add_argument(
        "--ring-kib",
        type=int,
        default=RING_BYTES // _KIB,
        help="KiB of memory for what the host has not stored yet; beyond it the oldest is dropped, and counted [%(default)s]",
    )
    parser.add_argument("--config", help="what the host may ask for; without it, nothing")
    parser.add_argument("--version", action="version", version=__version__)
    asked = parser.parse_args(arguments)
    try:
        leave = leaves.read(asked.config) if asked.config else Leave()
        every_ms = next(ms for ms in (asked.every_ms, leave.every_ms, _DEFAULT_EVERY_MS) if ms is not None)
        if not 1 <= every_ms <= 86_400_000:
            raise UsageError(f"cannot look every {every_ms} ms", "Look every millisecond at most.")
        if not _LEAST_RING_KIB <= asked.ring_kib <= _MOST_RING_KIB:
            raise UsageError(f"cannot keep records in {asked.ring_kib} KiB", f"Give {_LEAST_RING_KIB} to {_MOST_RING_KIB}.")
        agent = Agent(_port(asked.port), int(every_ms * 1e6), leave, asked.ring_kib * _KIB)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, agent.end)
        agent.run()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (ToolkitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _port(name: str) -> Port:
    if not name.startswith("fd:"):
        return Port(name)
    try:
        return DescriptorPort(int(name[3:]))
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{name} is no open descriptor", "Give the number of a connected stream socket.") from error


if __name__ == "__main__":
    sys.exit(main())
