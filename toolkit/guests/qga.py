"""qemu-guest-agent's calls for files and programs, for a guest that is not trusted: every answer bounded, checked, in time.

How a command reaches the agent is the caller's: through libvirt (:meth:`toolkit.guests.connection.Domain.agent`) or over a plain
socket (:class:`toolkit.guests.qga_socket.AgentSocket`). What is sampled that way is :mod:`toolkit.guests.qga_samples`'s.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.errors import GuestError
from toolkit.markup import visible

__all__ = ["Command", "GuestAgent", "Ran", "RefusedError"]

#: Sends one command; gives the agent's answer as it came: ``{"return": …}`` or ``{"error": {"class": …, "desc": …}}``.
Command = Callable[[Mapping[str, Any], float], Mapping[str, Any]]

#: Bytes of a file that go in one command: base64 makes them 64 KiB.
_CHUNK = 48 * 1024
#: Of a word of the agent's that is shown.
_WORDS = 300
_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.3
#: Words of strerror(ENOENT), as glibc and musl have them where no locale is set, as in a service of the system.
_MISSING = "No such file or directory"


class RefusedError(GuestError):
    """The agent answered that it will not or cannot; ``said`` is its reason. The guest and its agent are alive."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(what)
        self.said = said

    @property
    def missing(self) -> bool:
        """Whether the reason is that there is no such file."""
        return _MISSING in self.said


@dataclass(frozen=True)
class Ran:
    """What a program in the guest came to: its exit status (negative: the signal that ended it), its output, its errors."""

    status: int
    out: bytes
    err: bytes


class GuestAgent:
    """qemu-guest-agent of one guest. For one thread at a time; a guest that hangs holds that thread no longer than the limits.

    Parameters
    ----------
    command : callable
        Sends a command with a time limit in seconds, gives the answer, and raises GuestError where none comes in time.
    name : str
        The guest, for errors.
    limit_s : float
        The most that one command may take.
    """

    def __init__(self, command: Command, name: str, limit_s: float = 5.0) -> None:
        self._command = command
        self.name = name
        self._limit_s = limit_s

    def __repr__(self) -> str:
        return f"GuestAgent of {visible(self.name)}"

    def call(self, execute: str, **arguments: Any) -> Any:
        """Send a command; gives its ``return``. An argument's ``_`` stands for the protocol's ``-``.

        Raises
        ------
        RefusedError
            If the agent answers with an error.
        GuestError
            If it does not answer in time, or answers what is no answer.
        """
        command: dict[str, Any] = {"execute": execute}
        if arguments:
            command["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        answer = self._command(command, self._limit_s)
        if isinstance(answer, Mapping) and "return" in answer:
            return answer["return"]
        if isinstance(answer, Mapping) and isinstance(answer.get("error"), Mapping):
            said = visible(answer["error"].get("desc", "an error without a reason"), _WORDS)
            raise RefusedError(f"the qemu-guest-agent of {visible(self.name)} refuses {execute}: {said}", said)
        raise self._wrong(execute, "an answer that is neither a value nor an error")

    def _wrong(self, execute: str, what: str) -> GuestError:
        return GuestError(
            f"the qemu-guest-agent of {visible(self.name)} gave {what} to {execute}",
            "A guest's answers are not trusted: what does not fit is not used. Look at the agent in the guest.",
        )

    def _fields(self, execute: str, value: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
        """The fields of a value that is an object, each of its kind; one that is not there is left out."""
        if not isinstance(value, dict):
            raise self._wrong(execute, "no object")
        found = {name: value[name] for name in kinds if name in value}
        for name, each in found.items():
            # A truth value is a whole number in Python, and none in JSON.
            if not isinstance(each, kinds[name]) or (isinstance(each, bool) and kinds[name] is not bool):
                raise self._wrong(execute, f"a {name} of the wrong kind")
        return found

    def enabled(self) -> frozenset[str]:
        """The commands that the agent offers and that are not blocked in the guest (``block-rpcs``, ``allow-rpcs``)."""
        answer = self._fields("guest-info", self.call("guest-info"), {"supported_commands": list})
        names = set()
        for each in answer.get("supported_commands", [])[:1000]:
            fields = self._fields("guest-info", each, {"name": str, "enabled": bool})
            if fields.get("enabled") is True and "name" in fields:
                names.add(fields["name"][:100])
        return frozenset(names)

    def time_ns(self) -> int | None:
        """The guest's UTC in ns; None where the agent refuses to tell it or tells what is no time."""
        try:
            value = self.call("guest-get-time")
        except RefusedError:
            return None
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None

    def read_file(self, path: str, most_bytes: int, limit_s: float = 30.0) -> bytes:
        """The content of a file in the guest.

        Raises
        ------
        RefusedError
            If it is not there (``missing``) or may not be read.
        GuestError
            If it is longer than ``most_bytes``, or takes longer than ``limit_s`` altogether.
        """
        deadline = time.monotonic() + limit_s
        handle = self._opened(path, "r")
        content = bytearray()
        try:
            while True:
                piece, ended = self._read_piece(handle, min(_CHUNK, most_bytes + 1 - len(content)))
                content += piece
                if len(content) > most_bytes:
                    raise GuestError(f"{path} of {visible(self.name)} is longer than {most_bytes:,} bytes; it was not read")
                if ended or not piece:
                    return bytes(content)
                if time.monotonic() > deadline:
                    raise GuestError(f"{path} of {visible(self.name)} could not be read within {limit_s:g} s")
        finally:
            self._closed(handle)

    def read_if_there(self, path: str, most_bytes: int) -> bytes | None:
        """As :meth:`read_file`; None where the guest's kernel has no such file or refuses to read it."""
        try:
            return self.read_file(path, most_bytes)
        except RefusedError as error:
            if "guest-file" in error.said and "disabled" in error.said:
                raise
            return None

    def _opened(self, path: str, mode: str) -> int:
        handle = self.call("guest-file-open", path=path, mode=mode)
        if not isinstance(handle, int) or isinstance(handle, bool):
            raise self._wrong("guest-file-open", "no handle")
        return handle

    def _closed(self, handle: int) -> None:
        try:
            self.call("guest-file-close", handle=handle)
        except GuestError:
            return  # what led here is said already, and a guest that hangs cannot be helped

    def _read_piece(self, handle: int, most: int) -> tuple[bytes, bool]:
        answer = self.call("guest-file-read", handle=handle, count=most)
        fields = self._fields("guest-file-read", answer, {"count": int, "buf-b64": str, "eof": bool})
        piece = self._decoded("guest-file-read", fields.get("buf-b64", ""), most)
        if fields.get("count", len(piece)) != len(piece):
            raise self._wrong("guest-file-read", "another number of bytes than it says")
        return piece, fields.get("eof", False)

    def _decoded(self, execute: str, text: str, most: int) -> bytes:
        if len(text) > (most + 2) // 3 * 4:
            raise self._wrong(execute, f"more than the {most:,} bytes asked for")
        try:
            decoded = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise self._wrong(execute, "what is no base64") from None
        if len(decoded) > most:
            raise self._wrong(execute, f"more than the {most:,} bytes asked for")
        return decoded

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file in the guest, in bounded pieces; on a failure it may be there in part.

        Raises
        ------
        GuestError
            If it cannot be written.
        """
        handle = self._opened(path, "w")
        try:
            written = 0
            while written < len(content):
                piece = content[written : written + _CHUNK]
                text = base64.b64encode(piece).decode("ascii")
                answer = self.call("guest-file-write", handle=handle, buf_b64=text)
                count = self._fields("guest-file-write", answer, {"count": int}).get("count")
                if count is None or not 0 < count <= len(piece):
                    raise self._wrong("guest-file-write", "no number of bytes written that can be")
                written += count
            self.call("guest-file-flush", handle=handle)
        finally:
            self._closed(handle)

    def run(self, argv: Sequence[str], limit_s: float = 20.0, most_bytes: int = 64 * 1024) -> Ran:
        """Run a program in the guest, as root there, without a shell; its path is looked for where it has no slash.

        Raises
        ------
        RefusedError
            If it cannot be started: there is none, or guest-exec is blocked.
        GuestError
            If it has not ended within ``limit_s`` (it goes on then), or said more than ``most_bytes``.
        """
        deadline = time.monotonic() + limit_s
        started = self.call("guest-exec", path=argv[0], arg=list(argv[1:]), capture_output=True)
        pid = self._fields("guest-exec", started, {"pid": int}).get("pid")
        if pid is None:
            raise self._wrong("guest-exec", "no process")
        pause_s = _PAUSE_S
        while True:
            kinds = {"exited": bool, "exitcode": int, "signal": int, "out-data": str, "err-data": str, "out-truncated": bool}
            fields = self._fields("guest-exec-status", self.call("guest-exec-status", pid=pid), kinds)
            if fields.get("exited") is True:
                out, err = (
                    self._decoded("guest-exec-status", fields.get(name, ""), most_bytes) for name in ("out-data", "err-data")
                )
                if fields.get("out-truncated"):
                    raise self._wrong("guest-exec-status", "an output that is cut")
                return Ran(fields.get("exitcode", -fields.get("signal", 1)), out, err)
            if time.monotonic() > deadline:
                raise GuestError(f"{argv[0]} in {visible(self.name)} has not ended within {limit_s:g} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
