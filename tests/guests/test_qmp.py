"""QEMU's monitor: a real QEMU without a machine, and ends of a line that are none of QEMU's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.needs import require_tool
from toolkit.errors import LabError
from toolkit.guests import qmp
from toolkit.guests.devices import CONFINED, socket_chardev
from toolkit.guests.kept import Kept

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}\n'
AGREED = b'{"return": {}, "id": null}\n'


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Path]:
    """Of a QEMU without a machine."""
    path = tmp_path / "m"
    command = [require_tool("qemu-system-x86_64"), *CONFINED, "-machine", "none", "-chardev", socket_chardev("m", path)]
    with Kept([[*command, "-mon", "chardev=m,mode=control"]], [tmp_path / "log"], tmp_path):
        while not path.exists():
            time.sleep(0.02)
        yield path


def test_a_real_qemu_answers_refuses_and_tells_what_happens_to_it(monitor: Path) -> None:
    assert qmp.execute(monitor, "query-status")["status"] == "running"
    with pytest.raises(LabError, match=r"QEMU refuses device_add: .*no such thing"):
        qmp.execute(monitor, "device_add", driver="no such thing")
    with qmp.Monitor(monitor, ["STOP"]) as line:
        for command in ("stop", "cont", "stop"):
            line.execute(command)
        first, second = line.events("STOP")
        assert first.at_s < second.at_s
        assert line.events("RESUME") == []
    # Whoever hung up has left it free.
    assert qmp.execute(monitor, "query-status")["status"] == "paused"


def test_it_can_be_asked_where_a_loop_runs_already_as_in_a_notebook(monitor: Path) -> None:
    async def cell() -> str:
        return str(qmp.execute(monitor, "query-status")["status"])

    assert asyncio.run(cell()) == "running"


def test_where_there_is_no_qemu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"does not answer to its greeting .*No such file"):
        qmp.execute(tmp_path / "none", "query-status")


def _says(path: Path, *parts: bytes, then: Callable[[socket.socket], None] = lambda line: None) -> threading.Thread:
    """Something that listens where a QEMU should, and says one part after each line that it hears."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as line:
            line.settimeout(20)
            try:
                for number, part in enumerate(parts):
                    if number:
                        line.recv(65536)
                    line.sendall(part)
                then(line)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def _until_hung_up(line: socket.socket) -> None:
    while line.recv(65536):
        pass


EVENT = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 5}, "data": {}}\n'


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ((), "its greeting"),
        ((b"",), "its greeting"),
        ((b"\xff\xfe what?\n",), "its greeting"),
        ((b"[" * 100_000 + b"\n",), "its greeting"),
        ((b"x" * (3 << 20),), "its greeting"),
        ((b'{"QMP": 5}\n',), "its greeting"),
        ((GREETING, b'{"error": 5}\n'), "its greeting"),
        ((GREETING, AGREED, b"none\n"), "query-status"),
        ((GREETING, AGREED, b'{"return": 1, "id": []}\n'), "query-status"),
        ((GREETING, AGREED, b'{"event": ["STOP"]}\n'), "query-status"),
        ((GREETING, AGREED, b'{"error": {"desc": 5}, "id": "__qmp#00000"}\n'), "query-status"),
        ((GREETING, AGREED, EVENT * 5000), "query-status"),
    ],
)
@pytest.mark.parametrize("hangs", [False, True], ids=["hangs-up", "stays-silent"])
def test_what_is_no_qemu_is_an_error_in_time(tmp_path: Path, parts: tuple[bytes, ...], why: str, hangs: bool) -> None:
    thread = _says(tmp_path / "m", *parts, then=_until_hung_up if hangs else lambda line: None)
    with pytest.raises(LabError, match=f"does not answer to {why}"), qmp.Monitor(tmp_path / "m", ["STOP"], timeout_s=0.5) as line:
        line.execute("query-status")
    thread.join(20)
    assert not thread.is_alive()


def test_a_refusal_cannot_write_to_the_terminal_and_events_are_bounded(tmp_path: Path) -> None:
    refusal = b'{"error": {"class": "GenericError", "desc": "\\u001b[2Jno"}, "id": "__qmp#00000"}\n'
    thread = _says(tmp_path / "m", GREETING, AGREED, EVENT * 5000 + refusal, then=_until_hung_up)
    with qmp.Monitor(tmp_path / "m", ["STOP"]) as line:
        with pytest.raises(LabError, match="QEMU refuses query-status") as refused:
            line.execute("query-status")
        assert len(line.events("STOP")) == 1000
    assert "\x1b" not in str(refused.value)
    thread.join(20)


def test_ctrl_c_ends_the_wait_for_an_answer(tmp_path: Path) -> None:
    thread = _says(tmp_path / "m", GREETING, AGREED, b"", then=_until_hung_up)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), qmp.Monitor(tmp_path / "m") as line:
        line.execute("query-status")
    thread.join(20)
    assert not thread.is_alive()
