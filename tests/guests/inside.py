"""A program for lab guests: it starts agents on the guest's ports and looks at them, as the host asks over the first port.

It is forked for each agent, because the start of an interpreter takes a second of an emulated guest. It asks as
:mod:`tests.guests.asked` does: each line is an expression, mostly a call of a function here. Standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.guests import wire
from toolkit.guests.agent import RING_BYTES, Agent
from toolkit.guests.leave import Leave
from toolkit.guests.port import Port
from toolkit.sensors import rng  # the agent imports it when it is needed, which thirty agents need not do each

COMMAND = (sys.executable, "-S", "-B", "-m", "tests.guests.inside")

_control = -1
_children: set[int] = set()
_spawned: dict[int, subprocess.Popen[bytes]] = {}


def device(port: int) -> str:
    """A port's device, counted from 0."""
    return "/dev/virtio-ports/{}.{}".format(wire.PORT_NAME.rpartition(".")[0], port)


# Agents.


def start(port: int, every_ms: float, ring_kib: int = RING_BYTES // 1024, held: int = 0) -> int:
    """Start an agent in a process of its own, with so many samples that it seems to have kept from before."""
    agent = _forked(lambda: _agent(port, every_ms, ring_kib, held))
    _until(_counts_file(agent).exists)  # from now on it takes signals
    return agent


def _agent(port: int, every_ms: float, ring_kib: int, held: int) -> None:
    agent = Agent(Port(device(port)), int(every_ms * 1e6), Leave(), ring_kib * 1024)
    _hold(agent, held)

    def said(*_: Any) -> None:
        ring = agent.ring
        counts = {"made": ring.made, "acknowledged": ring.acknowledged, "dropped": ring.dropped, "oldest": ring.oldest}
        beside = _counts_file(os.getpid()).with_suffix(".new")
        beside.write_text(json.dumps(counts))
        beside.replace(_counts_file(os.getpid()))

    signal.signal(signal.SIGTERM, agent.end)
    signal.signal(signal.SIGUSR1, said)
    said()
    agent.run()
    said()


def _hold(agent: Agent, held: int) -> None:
    """Fill the ring with samples of the last milliseconds, in many small frames and some big ones."""
    layout = wire.LAYOUTS[wire.SAMPLES]
    t_ns, utc_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    packed = [layout.struct.pack(t_ns - (held - i) * 1000, utc_ns - (held - i) * 1000, 256, 1, 1, b"") for i in range(held)]
    at = 0
    while at < held:
        step = 20 if at % 3 else 500
        agent.ring.put(wire.SAMPLES, b"".join(packed[at : at + step]))
        at += step


def counts(agent: int) -> dict[str, int]:
    """What an agent that runs has made, dropped, and been told is stored."""
    file = _counts_file(agent)
    file.unlink()
    os.kill(agent, signal.SIGUSR1)
    _until(file.exists)
    found: dict[str, int] = json.loads(file.read_text())
    return found


def end(agent: int) -> dict[str, int]:
    """End an agent as its administrator would; what it counted."""
    os.kill(agent, signal.SIGTERM)
    return _last_counts(agent)


def _last_counts(agent: int) -> dict[str, int]:
    _ended(agent)
    found: dict[str, int] = json.loads(_counts_file(agent).read_text())
    return found


def kill_all() -> None:
    """End what a test that failed has left."""
    for child in list(_children):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _children.discard(child)
    for port in list(_held):
        let_go(port)


def _counts_file(agent: int) -> Path:
    return Path(f"/run/agent-{agent}")


def spawn(*words: str) -> int:
    """Start a program, such as the agent as people start it."""
    process = subprocess.Popen(words)
    _spawned[process.pid] = process
    return process.pid


def ended_status(pid: int) -> int:
    """End such a program; its status."""
    _spawned[pid].terminate()
    return _spawned.pop(pid).wait(60)


def start_all(first: int, last: int, every_ms: float) -> list[int]:
    """Start an agent on each of some ports."""
    return [start(port, every_ms) for port in range(first, last + 1)]


def end_all(agents: list[int]) -> list[dict[str, int]]:
    """End agents, all at once."""
    for agent in agents:
        os.kill(agent, signal.SIGTERM)
    return [_last_counts(agent) for agent in agents]


def lend(every_ms: float, records: int) -> None:
    """Have an agent on the first port too, until it has made so many records; nothing can be asked meanwhile."""
    global _control
    os.close(_control)
    _control = -1
    agent = start(0, every_ms)
    _until(lambda: counts(agent)["acknowledged"] >= records)
    end(agent)


def busy_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state() -> str:
    """What an agent says of this guest's generator."""
    return rng.read_rng_state().regime


def boottime_ns() -> int:
    """This guest's time."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def set_clock(offset_s: float) -> None:
    """Set the calendar's time, so far from now."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + offset_s)


# A port without the agent.


def without_host(port: int) -> dict[str, Any]:
    """How a port behaves whose host is away."""
    fd = os.open(device(port), os.O_RDWR | os.O_NONBLOCK)
    try:
        return {
            "open again": _error(lambda: os.open(device(port), os.O_RDWR)),
            "seek": _error(lambda: os.lseek(fd, 0, os.SEEK_SET)),
            "poll": _polled(fd),
            "read": _error(lambda: os.read(fd, 10)),
            "write": _error(lambda: os.write(fd, b"x")),
            "blocking read": _blocking_read(port, fd),
            "hear": list(_as_port(port, fd).hear())[:1],
            "host_is_there": _as_port(port, fd).host_is_there(),
        }
    finally:
        os.close(fd)


def with_host(port: int) -> dict[str, Any]:
    """How it behaves while its host is there and says nothing, after it was opened and closed a few times."""
    for _ in range(5):
        os.close(os.open(device(port), os.O_RDWR | os.O_NONBLOCK))
    fd = os.open(device(port), os.O_RDWR | os.O_NONBLOCK)
    try:
        return {
            "open again": _error(lambda: os.open(device(port), os.O_RDWR)),
            "poll": _polled(fd),
            "read": _error(lambda: os.read(fd, 10)),
            "write": _error(lambda: os.write(fd, b"here")),
            "hear": list(_as_port(port, fd).hear())[:1],
            "host_is_there": _as_port(port, fd).host_is_there(),
        }
    finally:
        os.close(fd)


def _as_port(port: int, fd: int) -> Port:
    made = Port(device(port))
    made.fd = fd
    return made


def _blocking_read(port: int, fd: int) -> Any:
    os.set_blocking(fd, True)
    try:
        return _error(lambda: os.read(fd, 10))
    finally:
        os.set_blocking(fd, False)


def _polled(fd: int) -> list[str]:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    return [name for _, events in poll.poll(0) for name in ("POLLIN", "POLLOUT", "POLLHUP") if events & getattr(select, name)]


def _error(call: Callable[[], Any]) -> Any:
    try:
        got = call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return got.decode() if isinstance(got, bytes) else got


def hold(port: int) -> None:
    """Keep a port open."""
    _held[port] = os.open(device(port), os.O_RDWR | os.O_NONBLOCK)


def let_go(port: int) -> None:
    """Close it."""
    os.close(_held.pop(port))


_held: dict[int, int] = {}


def megabytes(port: int, size: int) -> int:
    """Start a process that takes so many bytes, says their checksum, and then sends as many with theirs."""
    return _forked(lambda: _megabytes(Port(device(port)), size))


def _megabytes(port: Port, size: int) -> None:
    _until(lambda: port.open() and port.host_is_there())
    assert port.fd is not None
    poll = select.poll()
    poll.register(port.fd, select.POLLIN)
    came, rest = hashlib.sha256(), size
    while rest:
        poll.poll(1000)
        said = port.hear().said
        came.update(said)
        rest -= len(said)
    block = os.urandom(64 * 1024)
    sent, left = hashlib.sha256(), size
    _say_all(port, came.hexdigest().encode())
    while left:
        part = block[:left]
        sent.update(part)
        _say_all(port, part)
        left -= len(part)
        block = sent.digest() + block[:-32]
    _say_all(port, sent.hexdigest().encode())
    port.close()


def _say_all(port: Port, data: bytes) -> None:
    assert port.fd is not None
    view = memoryview(data)
    poll = select.poll()
    poll.register(port.fd, select.POLLOUT)
    while view:
        wrote = port.say(view)
        view = view[wrote:]
        if not wrote:
            poll.poll(1000)


def _ended(pid: int) -> None:
    status: list[int] = []

    def gone() -> bool:
        found, how = os.waitpid(pid, os.WNOHANG)
        status.append(how)
        return bool(found)

    _until(gone)
    _children.discard(pid)
    if status[-1]:
        raise OSError(errno.ECHILD, f"it ended with status {status[-1]}")


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        _children.add(child)
        return child
    try:
        for fd in (_control, *_held.values()):
            if fd >= 0:
                os.close(fd)
        work()
    except BaseException:  # noqa: BLE001 (nothing may go on in a second process)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, "it does not come to pass")
        time.sleep(0.02)


def _answer_for_ever() -> None:
    global _control
    asked = b""
    while True:
        if _control < 0:
            _control = os.open(device(0), os.O_RDWR)
        got = os.read(_control, 4096)
        if not got:  # nobody is at the host's end
            time.sleep(0.05)
        asked += got
        while b"\n" in asked:
            line, _, asked = asked.partition(b"\n")
            if not line or b"\0" in line or not line.isascii():
                continue  # what the host's receiver said to an agent to which this port was lent
            try:
                answer = eval(line)
            except Exception as error:  # noqa: BLE001 (the host is told)
                answer = "E: " + repr(error)
                traceback.print_exc()
            if _control >= 0:
                os.write(_control, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    _answer_for_ever()
