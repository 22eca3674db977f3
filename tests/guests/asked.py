"""A program for lab guests that computes what the host asks over the first port, and the host's side of it."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.guests.lab import BootedGuest

_PROGRAM = """
import errno, glob, json, os, subprocess, time
from toolkit.guests.wire import PORT_NAME
port = os.open("/dev/virtio-ports/" + PORT_NAME, os.O_RDWR)
asked = b""
while True:
    got = os.read(port, 4096)
    if not got:  # nobody is at the host's end
        time.sleep(0.1)
    asked += got
    while b"\\n" in asked:
        line, _, asked = asked.partition(b"\\n")
        try:
            answer = eval(line)
        except OSError as error:
            answer = errno.errorcode[error.errno]
        os.write(port, json.dumps(answer).encode() + b"\\n")
"""

COMMAND = (sys.executable, "-S", "-B", "-c", _PROGRAM)


@contextlib.contextmanager
def connected(path: Path, timeout_s: float = 60.0) -> Iterator[socket.socket]:
    """At the host's end of a port."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        line.connect(str(path))
        yield line


def ask(guest: BootedGuest, expression: str) -> Any:
    """What a Python expression is in the guest; the name of the error, where the kernel refuses."""
    with connected(guest.sockets[0]) as line:
        line.sendall(expression.encode() + b"\n")
        return answer(line)


def answer(line: socket.socket) -> Any:
    """The answer to what was asked."""
    with line.makefile("rb") as said:
        return json.loads(said.readline())
