"""What may sit at the guest's end of a channel: our agent in a process of its own, and others that mean no good."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toolkit.guests import wire
from toolkit.guests.wire import LAYOUTS, Decoder, Frame, encode

BOOT = "00000000-0000-4000-8000-000000000000"


@contextlib.contextmanager
def agents(pyz: Path, names: list[str], every_ms: float) -> Iterator[dict[str, tuple[socket.socket, subprocess.Popen[bytes]]]]:
    """An agent a name, each a process on a socket pair; gives the host's ends."""
    started: dict[str, tuple[socket.socket, subprocess.Popen[bytes]]] = {}
    try:
        for name in names:
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-IS", str(pyz), "--port", f"fd:{theirs.fileno()}", "--every-ms", repr(every_ms)]
            started[name] = (ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]))
            theirs.close()
        yield started
    finally:
        for ours, process in started.values():
            process.kill()
            process.wait()
            ours.close()


class Peer:
    """A guest's end that a test speaks at, byte by byte; a thread that ends with the test."""

    def __init__(self, act: Callable[[Peer], None]) -> None:
        self.host, self.socket = socket.socketpair()
        self.failed: BaseException | None = None
        self.ending = threading.Event()
        self._decoder = Decoder()
        self._heard: list[Frame] = []
        self._sequence = 0
        self._act = act
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._act(self)
        except OSError:
            pass  # the receiver has ended
        except BaseException as error:  # noqa: BLE001 (told by end)
            self.failed = error

    def end(self) -> None:
        """End it; raises what it failed with."""
        self.ending.set()
        self.socket.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self.failed is not None:
            raise self.failed

    def hear(self, kind: int, again: Callable[[], None] | None = None) -> Frame:
        """The next frame of a kind; every second in which nothing comes, do something ``again``."""
        while True:
            while self._heard:
                frame = self._heard.pop(0)
                if frame.kind == kind:
                    return frame
            self.socket.settimeout(None if again is None else 1.0)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                assert again is not None
                again()
                continue
            finally:
                self.socket.settimeout(None)
            if not data:
                raise ConnectionResetError
            self._heard += self._decoder.feed(data)

    def say(self, kind: int, *records: dict[str, Any], session: int = 1, first: int = wire.NO_NUMBER, oldest: int = 0) -> None:
        """A frame of whole records, the next in sequence."""
        payload = b"".join(LAYOUTS[kind].pack(**record) for record in records)
        self.socket.sendall(self.frame(kind, payload, session=session, first=first, oldest=oldest))

    def frame(self, kind: int, payload: bytes, *, session: int = 1, first: int = wire.NO_NUMBER, oldest: int = 0) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        return encode(kind, payload, session=session, sequence=sequence, first=first, oldest=oldest)

    def greet(self, session: int = 1, *, insist: bool = False, **said: Any) -> None:
        """Answer the receiver's last welcome with a hello; to insist is to ask for one again, as an agent does that hears none."""
        welcome = self.hear(wire.WELCOME, (lambda: self.say(wire.HELLO, hello())) if insist else None)
        with contextlib.suppress(BlockingIOError):
            self._heard += self._decoder.feed(self.socket.recv(65536, socket.MSG_DONTWAIT))
        for frame in self._heard:
            welcome = frame if frame.kind == wire.WELCOME else welcome
        self._heard = [frame for frame in self._heard if frame.kind != wire.WELCOME]
        nonce = next(LAYOUTS[wire.WELCOME].unpack(welcome.payload))["nonce"]
        self._sequence = 0
        self.say(wire.HELLO, hello(answers=nonce, **said), session=session)


def hello(**said: Any) -> dict[str, Any]:
    """A hello's fields; as said, else such as an honest agent says."""
    honest: dict[str, Any] = {
        "answers": 0,
        "t_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "utc_ns": time.time_ns(),
        "boot_id": BOOT,
        "kernel": os.uname().release,
        "host_name": "peer",
        "agent_version": "0",
        "python": "3",
        "interval_ns": 10**8,
        "made": 0,
        "acknowledged": 0,
        "dropped": 0,
        "cpu_model": None,
        "cpu_count": None,
        "memory_bytes": None,
        "allows": "",
    }
    return {**honest, **said}


def sample(t_ns: int, utc_ns: int | None = None, bits: int | None = 256, ready: Any = True, readable: Any = True) -> dict[str, Any]:
    """A sample's fields."""
    utc = time.time_ns() if utc_ns is None else utc_ns
    return {"t_ns": t_ns, "utc_ns": utc, "entropy_avail_bits": bits, "crng_ready": ready, "random_readable": readable, "pad": ""}
