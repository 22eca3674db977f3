"""qemu-guest-agent over a plain unix socket, for a guest that is none of libvirt's."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolkit.errors import GuestError
from toolkit.markup import visible

__all__ = ["AgentSocket"]

#: The longest line that is taken from a guest.
_LONGEST = 4 * 2**20
_PIECE = 65536
#: What guest-sync-delimited puts before its answer: no byte of UTF-8, so nothing that was said before can hold it.
_DELIMITER = b"\xff"


class AgentSocket:
    """Sends commands to the agent behind a socket. Use as a context manager, and as the command of a ``GuestAgent``.

    Parameters
    ----------
    path : Path
        The socket of the port ``org.qemu.guest_agent.0`` on the host. It takes one client at a time.

    Raises
    ------
    GuestError
        When it is made, if the socket cannot be connected; when it is called, if no answer comes in time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_step = False
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(5.0)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise GuestError(
                f"the socket {visible(path)} of a qemu-guest-agent cannot be connected: {error.strerror or error}",
                "Look whether the guest runs, and whether somebody else (libvirt) has the socket already.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __call__(self, command: Mapping[str, Any], limit_s: float) -> Mapping[str, Any]:
        """Send a command; gives the answer. After a failure the next call first finds its place in what is said again."""
        deadline = time.monotonic() + limit_s
        try:
            if not self._in_step:
                self._find_place(deadline)
            self._in_step = False
            answer = self._asked(json.dumps(command).encode(), deadline)
            self._in_step = True
        except OSError as error:
            said = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise GuestError(
                f"the qemu-guest-agent at {visible(self._path)}: {said}", "Look whether the agent runs in the guest, and try again."
            ) from error
        return answer

    def _find_place(self, deadline: float) -> None:
        """Throw away what was said before, up to the answer to a number that is new."""
        token = secrets.randbits(48)
        command = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        # The delimiter also ends whatever half a command the agent may still be reading.
        self._send(_DELIMITER + json.dumps(command).encode(), deadline)
        self._rest = b""
        while True:
            line = self._line(deadline)
            _, found, answer = line.rpartition(_DELIMITER)
            if found:
                with contextlib.suppress(ValueError, RecursionError):
                    value = json.loads(answer)
                    if isinstance(value, dict) and value.get("return") == token:
                        return

    def _asked(self, command: bytes, deadline: float) -> Mapping[str, Any]:
        self._send(command, deadline)
        line = self._line(deadline)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise GuestError(f"the qemu-guest-agent at {visible(self._path)} gave an answer that is no JSON object")
        return answer

    def _send(self, command: bytes, deadline: float) -> None:
        self._socket.settimeout(self._left(deadline))
        self._socket.sendall(command + b"\n")

    def _line(self, deadline: float) -> bytes:
        pieces = [self._rest]
        length = len(self._rest)
        while b"\n" not in pieces[-1]:
            self._socket.settimeout(self._left(deadline))
            piece = self._socket.recv(_PIECE)
            if not piece:
                raise ConnectionResetError(None, "it hung up")
            length += len(piece)
            if length > _LONGEST:
                self._rest = b""
                raise GuestError(f"the qemu-guest-agent at {visible(self._path)} gave a line of more than {_LONGEST:,} bytes")
            pieces.append(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line

    @staticmethod
    def _left(deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
