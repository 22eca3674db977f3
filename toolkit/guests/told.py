"""What a tiny guest says over its port, and its result: lines, then a tar archive. A guest may send anything, and without end.

One thread: it reads only while it is asked to, and never without a limit of time and of bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

__all__ = ["MOST_RESULT_BYTES", "Told"]

#: What a result may hold at most; a minute of reads at a megabyte a second is a third of that.
MOST_RESULT_BYTES = 64 << 20
_MOST_LINE_BYTES = 4096
_MOST_FILES = 4096
# Of a file's name with its folders: no file system refuses it then, and nothing that walks folders is led too deep.
_MOST_NAME_LETTERS = 255

_READ_BYTES = 1 << 16
_PAUSE_S = 0.02
# Between two looks whether the guest still runs.
_LOOK_S = 0.5

_RESULT = re.compile(r"result ([0-9]{1,18})")
_TAKEN = "taken"
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_NAME = re.compile(r"(?:\./)?((?:[A-Za-z0-9_][A-Za-z0-9_.:-]*/)*[A-Za-z0-9_][A-Za-z0-9_.:-]*)")


class Told:
    """The host's end of a tiny guest's port. Use as a context manager.

    Parameters
    ----------
    path : Path
        The socket at which QEMU listens, soon.
    ended : callable
        Whether QEMU has ended.
    """

    def __init__(self, path: Path, ended: Callable[[], bool]) -> None:
        self._path = path
        self._ended = ended
        self._line: socket.socket | None = None
        self._buffer = bytearray()

    def __enter__(self) -> Told:  # noqa: PYI034 - it is no subclass's
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._line is not None:
            self._line.close()

    def line(self, timeout_s: float) -> str:
        """The next line.

        Raises
        ------
        TimeoutError, EOFError, ValueError
            If none comes in time; if the guest ends without; if it is too long or no text.
        """
        deadline = time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MOST_LINE_BYTES:
                raise ValueError("a line without an end")
            self._more(deadline)
        said = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if len(said) > _MOST_LINE_BYTES:
            raise ValueError("a line that is too long")
        return said.decode()

    def tell(self, text: str, timeout_s: float) -> None:
        """Say a line to it.

        Raises
        ------
        TimeoutError, EOFError
            If it does not listen.
        """
        line = self._connected(time.monotonic() + timeout_s)
        line.settimeout(timeout_s)
        try:
            line.sendall(text.encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error

    def result(self, timeout_s: float) -> dict[str, bytes]:
        """The files of its result, by path; lines before it are passed over.

        Raises
        ------
        TimeoutError, EOFError, ValueError
            If it does not come in time; if the guest ends without; if it is too much, or no result.
        """
        deadline = time.monotonic() + timeout_s
        while (match := _RESULT.fullmatch(self.line(deadline - time.monotonic()))) is None:
            pass
        size = int(match[1])
        if size > MOST_RESULT_BYTES:
            raise ValueError(f"more than {MOST_RESULT_BYTES >> 20} MiB")
        while len(self._buffer) < size:
            self._more(deadline)
        archive = bytes(self._buffer[:size])
        # It waits for that before it powers off; if it does not listen, it has been heard all the same.
        with contextlib.suppress(TimeoutError, EOFError):
            self.tell(_TAKEN, _LOOK_S)
        return _files(archive)

    def _connected(self, deadline: float) -> socket.socket:
        while self._line is None:
            line = socket.socket(socket.AF_UNIX)
            try:
                line.connect(str(self._path))
            except OSError:
                line.close()
                self._check(deadline)
                time.sleep(_PAUSE_S)
            else:
                self._line = line
        return self._line

    def _more(self, deadline: float) -> None:
        line = self._connected(deadline)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            line.settimeout(min(left_s, _LOOK_S))
            try:
                said = line.recv(_READ_BYTES)
            except TimeoutError:
                self._check(deadline)
                continue
            except ConnectionResetError:
                said = b""
            if not said:
                raise EOFError
            self._buffer += said
            return

    def _check(self, deadline: float) -> None:
        if self._ended():
            raise EOFError
        if time.monotonic() > deadline:
            raise TimeoutError


def _files(archive: bytes) -> dict[str, bytes]:
    """The plain files of an archive, in memory, by names that are harmless; nothing is unpacked onto a disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
            held = 0
            for count, member in enumerate(opened, 1):
                held += member.size
                if count > _MOST_FILES:
                    raise ValueError(f"more than {_MOST_FILES} files")
                # An archive can say anything of sizes: a sparse file of a few bytes is as large as it likes, others share bytes.
                if member.size < 0 or held > len(archive):
                    raise ValueError("files that are larger than it")
                name = _NAME.fullmatch(member.name) if len(member.name) <= _MOST_NAME_LETTERS else None
                content = opened.extractfile(member) if member.type in _PLAIN and name else None
                if name and content is not None:
                    found[name[1]] = content.read()
    except (tarfile.TarError, OverflowError, IndexError) as error:
        raise ValueError(f"no archive: {error}") from error
    return found
