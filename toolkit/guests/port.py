"""The agent's end of the channel: a virtio-serial port that is never waited for.

A port may be missing, taken, unplugged and back; its host may be away. Each is found out without blocking, and none is an error.
Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import errno
import os
import select
from typing import NamedTuple

__all__ = ["DescriptorPort", "Heard", "Port"]

_AT_ONCE_BYTES = 16 * 1024
# Not there, not there any more, taken by another, its driver or device going: to be opened again later.
_AWAY = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EBUSY, errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.EBADF)


class Heard(NamedTuple):
    """What a look at the port gave: whether a host is there, and what it said."""

    host: bool
    said: bytes


class Port:
    """A port by its path, opened whenever it is there.

    Parameters
    ----------
    path : str
        ``/dev/virtio-ports/NAME``.

    Attributes
    ----------
    fd : int or None
        While it is open.
    why_closed : str
        Why it could not be opened, or is not any more, for people.
    ended : bool
        Whether it is gone for good.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd: int | None = None
        self.why_closed = "not opened yet"
        self.ended = False

    def open(self) -> bool:
        """Open it if that is possible now; gives whether it is open."""
        if self.fd is None:
            try:
                self.fd = self._opened()
            except OSError as error:
                if error.errno not in _AWAY:
                    raise
                self.why_closed = os.strerror(error.errno)
        return self.fd is not None

    def hear(self) -> Heard:
        """What the host has said, as much as is there."""
        said = b""
        while self.fd is not None and len(said) < _AT_ONCE_BYTES:
            try:
                part = os.read(self.fd, _AT_ONCE_BYTES)
            except BlockingIOError:
                return Heard(True, said)
            except OSError as error:
                self._failed(error)
                break
            if not part:
                # A virtio port gives an empty read while its host is away.
                self._at_end()
                break
            said += part
        return Heard(bool(said), said)

    def say(self, data: memoryview) -> int:
        """Write what fits now; gives how many bytes that was."""
        if self.fd is None:
            return 0
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._failed(error)
            return 0

    def host_is_there(self) -> bool:
        """Whether poll says that somebody has the host's end open."""
        if self.fd is None:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))

    def close(self) -> None:
        """Close it; closing twice is no error."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _opened(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)

    def _at_end(self) -> None:
        """The host is away; the port stays."""

    def _failed(self, error: OSError) -> None:
        if error.errno not in _AWAY:
            raise error
        self.close()
        self.why_closed = os.strerror(error.errno)


class DescriptorPort(Port):
    """A stream socket that this process was given: once its other end is closed, it does not come back."""

    def __init__(self, fd: int) -> None:
        super().__init__(f"descriptor {fd}")
        os.set_blocking(fd, False)
        self._given: int | None = fd

    def _opened(self) -> int:
        given, self._given = self._given, None
        if given is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return given

    def _at_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it, for good."""
        self.ended = self.ended or self.fd is not None
        super().close()
