"""The agent as guests run it, one file and any Python, with a test as its host at the other end of a socket pair."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.sensors.interpreters import interpreters
from toolkit.guests import wire
from toolkit.guests.wire import LAYOUTS, Decoder, Frame, encode

#: Nothing here takes a fraction of it, unless it is broken.
PATIENCE_S = 60.0

# An agent whose memory and whose beginning a test sets.
_PROGRAM = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from toolkit.guests import wire
from toolkit.guests.agent import Agent
from toolkit.guests.leave import Leave
from toolkit.guests.port import DescriptorPort
interval_ns, ring_bytes, batches, records = map(int, sys.argv[3:])
agent = Agent(DescriptorPort(int(sys.argv[2])), interval_ns, Leave(), ring_bytes)
for _ in range(batches):
    agent.ring.put(wire.SAMPLES, bytes(records * wire.LAYOUTS[wire.SAMPLES].struct.size))
signal.signal(signal.SIGTERM, agent.end)
agent.run()
"""


class Hosted:
    """An agent and its host.

    Attributes
    ----------
    process : Popen
        The agent.
    session : int
        As its last hello said.
    """

    def __init__(self, command: Callable[[int], list[str]], line: socket.socket, theirs: socket.socket) -> None:
        self.line = line
        self.session = 0
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command(theirs.fileno()), pass_fds=[theirs.fileno()], cwd="/", **pipes)
        theirs.close()

    def say(self, kind: int, **record: Any) -> None:
        """Send one record to it."""
        self.line.sendall(encode(kind, LAYOUTS[kind].pack(**record), session=self.session))

    def next(self, most_bytes: int = 65536) -> Frame:
        """The next frame that it sends."""
        while not self._frames:
            self.line.settimeout(PATIENCE_S)
            data = self.line.recv(most_bytes)
            assert data, f"the agent has closed the port: {self.process.wait()}, {self.words()}"
            self._frames += self._decoder.feed(data)
            assert self._decoder.corrupt_frames == 0
        frame = self._frames.pop(0)
        if frame.kind == wire.HELLO:
            self.session = frame.session
        return frame

    def until(self, kind: int, most_bytes: int = 65536) -> tuple[dict[str, Any], list[Frame]]:
        """The first record of the next frame of a kind, and the frames before it."""
        before = []
        while (frame := self.next(most_bytes)).kind != kind:
            before.append(frame)
        return record(frame), before

    def welcome(self, nonce: int) -> dict[str, Any]:
        """Say WELCOME; gives the HELLO that answers it."""
        self.say(wire.WELCOME, nonce=nonce)
        while (hello := self.until(wire.HELLO)[0])["answers"] != nonce:
            pass
        return hello

    def rest(self) -> list[Frame]:
        """All that it sends until it closes."""
        while data := self._closing():
            self._frames += self._decoder.feed(data)
        frames, self._frames = self._frames, []
        return frames

    def _closing(self) -> bytes:
        self.line.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):
            return self.line.recv(65536)
        return b""

    def words(self) -> str:
        """What it printed as errors, once it has ended."""
        return self.process.communicate(timeout=PATIENCE_S)[1].decode()

    def terminate(self) -> None:
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End it for certain."""
        self.line.close()
        self.process.kill()
        self.process.communicate()


def record(frame: Frame) -> dict[str, Any]:
    """The first record of a frame."""
    return next(LAYOUTS[frame.kind].unpack(frame.payload))


@contextlib.contextmanager
def on_every_python(pyz: Path, *options: str, buffer_bytes: int | None = None) -> Iterator[list[Hosted]]:
    """An agent on each Python, side by side, each with a host."""

    def command(python: Path) -> Callable[[int], list[str]]:
        return lambda fd: [str(python), "-S", "-W", "error", str(pyz), "--port", f"fd:{fd}", *options]

    with _hosted([command(python) for python in interpreters()], buffer_bytes) as hosted:
        yield hosted


@contextlib.contextmanager
def with_memory(
    pyz: Path, interval_ns: int, ring_bytes: int, *, batches: int = 0, records: int = 0, buffer_bytes: int | None = None
) -> Iterator[list[Hosted]]:
    """The same with so much memory, and with batches of so many records in it to begin with."""
    numbers = [str(number) for number in (interval_ns, ring_bytes, batches, records)]

    def command(python: Path) -> Callable[[int], list[str]]:
        return lambda fd: [str(python), "-S", "-W", "error", "-c", _PROGRAM, str(pyz), str(fd), *numbers]

    with _hosted([command(python) for python in interpreters()], buffer_bytes) as hosted:
        yield hosted


@contextlib.contextmanager
def _hosted(commands: list[Callable[[int], list[str]]], buffer_bytes: int | None) -> Iterator[list[Hosted]]:
    with contextlib.ExitStack() as stack:
        hosted = []
        for command in commands:
            ours, theirs = socket.socketpair()
            if buffer_bytes is not None:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            hosted.append(Hosted(command, ours, theirs))
            stack.callback(hosted[-1].end)
        yield hosted


def used(pid: int) -> tuple[float, int]:
    """What a process has used: seconds of a core, and how often it waited for something."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu_s, int(_status(pid)["voluntary_ctxt_switches"])


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in use now."""
    return int(_status(pid)["VmRSS"].split()[0]) * 1024


def threads(pid: int) -> int:
    """How many threads a process has."""
    return int(_status(pid)["Threads"])


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def drained(hosted: list[Hosted], seconds: float) -> None:
    """Read and throw away what agents send for so long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for line in select.select([one.line for one in hosted], [], [], left)[0]:
            line.recv(65536)
