"""The samples of a guest without our agent, in the place of our agent: asked of qemu-guest-agent, said in frames of ours.

A thread on the host asks, about once a second, and speaks to the receiver through a socket pair as an agent would: so its records
are numbered, stored, and counted like those of every other guest.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from toolkit._version import __version__
from toolkit.errors import ToolkitError
from toolkit.guests import wire
from toolkit.guests.qga_samples import GuestIdentity, QgaGuest
from toolkit.guests.ring import Ring
from toolkit.guests.wire import LAYOUTS

__all__ = ["Relay"]

_RING_BYTES = 1024 * 1024
_AGAIN_S = 5.0
_STATE_S = 60.0


class Relay:
    """Asks one guest, in a thread, until it is closed.

    Parameters
    ----------
    opened : callable
        Makes the context in which the guest can be asked; called again, after a while, where that failed.
    interval_s : float
        Between two looks.

    Attributes
    ----------
    socket : socket
        For the receiver.
    why : str
        Why the guest cannot be asked now; empty where it can.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[QgaGuest]], interval_s: float) -> None:
        self.socket, self._ours = socket.socketpair()
        self.why = "it was not asked yet"
        self._opened = opened
        self._interval_s = interval_s
        self._ending = threading.Event()
        self._ring = Ring(_RING_BYTES)
        self._session = 0
        self._sequence = 0
        self._decoder = wire.Decoder()
        self._thread = threading.Thread(target=self._run, name="toolkit-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; a question that is under way is waited for as long as it may take."""
        self._ending.set()
        self._thread.join(timeout=10)
        self._ours.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with self._opened() as guest:
                    self._relay(guest)
            except ToolkitError as error:
                self.why = str(error)
            except OSError:
                return  # the receiver is gone
            self._ending.wait(_AGAIN_S)

    def _relay(self, guest: QgaGuest) -> None:
        """Until an error: one sample an interval."""
        who = guest.identity()
        self.why = ""
        self._session += 1
        self._ring = Ring(_RING_BYTES)
        nonce = last_ns = 0
        state_at = time.monotonic() + _STATE_S
        due = time.monotonic()
        while not self._ending.is_set():
            sample = guest.look()
            if sample.t_ns < last_ns:
                return  # it has booted anew
            last_ns = sample.t_ns
            self._ring.put(wire.SAMPLES, LAYOUTS[wire.SAMPLES].pack(**sample._asdict(), pad=""))
            if nonce and time.monotonic() > state_at:
                # It becomes ready some day; its source may change.
                state_at = time.monotonic() + _STATE_S
                later = guest.identity()
                if later.boot_id != who.boot_id:
                    return
                who = later
                self._say(wire.STATE, LAYOUTS[wire.STATE].pack(**who.rng_state))
            nonce = self._heard(nonce, who)
            while nonce and (batch := self._ring.next()) is not None:
                self._ring.sent()
                self._say(batch.kind, batch.payload, batch.first)
            due = max(due + self._interval_s, time.monotonic())
            self._ending.wait(max(0.0, due - time.monotonic()))

    def _heard(self, nonce: int, who: GuestIdentity) -> int:
        """What the receiver said; gives the nonce of its last welcome, which is answered."""
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = self._ours.recv(65536, socket.MSG_DONTWAIT)
        welcomed = 0
        for frame in self._decoder.feed(said):
            record = next(LAYOUTS[frame.kind].unpack(frame.payload))
            if frame.kind == wire.WELCOME:
                welcomed = record["nonce"]
            elif frame.kind == wire.ACK and frame.session == self._session:
                self._ring.acknowledge(record["number"] or 0)
        if welcomed or not nonce:
            self._hello(welcomed, who)
        if welcomed:
            self._ring.again()
            self._say(wire.STATE, LAYOUTS[wire.STATE].pack(**who.rng_state))
        return welcomed or nonce

    def _hello(self, answers: int, who: GuestIdentity) -> None:
        self._sequence = 0
        told: dict[str, Any] = {
            "answers": answers,
            "t_ns": 0,
            "utc_ns": time.time_ns(),
            "boot_id": who.boot_id,
            "kernel": who.kernel,
            "host_name": who.host_name,
            "agent_version": f"{__version__} (through qemu-guest-agent)",
            "python": None,
            "interval_ns": int(self._interval_s * 1e9),
            "made": self._ring.made,
            "acknowledged": self._ring.acknowledged,
            "dropped": self._ring.dropped,
            "cpu_model": None,
            "cpu_count": None,
            "memory_bytes": None,
            "allows": "",
        }
        self._say(wire.HELLO, LAYOUTS[wire.HELLO].pack(**told))

    def _say(self, kind: int, payload: bytes, first: int = wire.NO_NUMBER) -> None:
        sequence, self._sequence = self._sequence, self._sequence + 1
        frame = wire.encode(kind, payload, session=self._session, sequence=sequence, first=first, oldest=self._ring.oldest)
        self._ours.sendall(frame)
