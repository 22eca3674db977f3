"""Image files full of zeroes, and the room for them: the backing of scratch file systems.

Each block of an image is allocated and written. A hole, or a block that is only reserved, would be allocated below while the file
system above is measured, and its time would be counted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from toolkit import mounts
from toolkit.errors import ScratchError, UnavailableError
from toolkit.progress import Progress
from toolkit.units import bytes_text

__all__ = ["RESERVE_BYTES", "check_space", "fill_again", "memory_available_bytes", "write_image"]

_MIB = 1024 * 1024

#: Kept free beside what is written, on disk and in memory: a machine that runs full measures nothing, and disturbs its owner.
RESERVE_BYTES = 256 * _MIB

_CHUNK_BYTES = 4 * _MIB

# f_type of statfs(2) is not in Python; these are the names of mountinfo whose files live in memory.
_IN_MEMORY = ("tmpfs", "ramfs")


def memory_available_bytes() -> int:
    """Memory that can be had without swapping (MemAvailable)."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise UnavailableError("/proc/meminfo does not say how much memory is available", "Use a kernel from 3.14 on.")


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Make sure that so much can be written in a folder, beside a reserve, in memory too where the folder is there.

    Raises
    ------
    ScratchError
        If not; it says how much is missing.
    """
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    mounted = mounts.mount_of(folder)
    if mounted is not None and mounted.kernel_type in _IN_MEMORY:
        free = min(free, memory_available_bytes())
    missing = needed_bytes + RESERVE_BYTES - free
    if missing > 0:
        raise ScratchError(
            f"{what} need {bytes_text(needed_bytes)} in {folder.parent} beside a reserve of {bytes_text(RESERVE_BYTES)}, "
            f"and {bytes_text(free)} are free: {bytes_text(missing)} are missing",
            "Ask for smaller files (size) or fewer file systems, or set TOOLKIT_SCRATCH to a folder with more room.",
        )


def write_image(image: Path, size_bytes: int, position: int, count: int, words: str, progress: Progress) -> None:
    """Write an image full of zeroes: allocated and written, so that nothing is allocated below while a file system is measured.

    Parameters
    ----------
    image : Path
        The file; there must be none yet.
    size_bytes : int
        Its size, in whole MiB.
    position, count : int
        Which of how many images of this size it is, for ``progress``, which is told of bytes and given ``words``.

    Raises
    ------
    ScratchError
        If it cannot be written.
    """

    def told(offset: int) -> None:
        progress(position * size_bytes + offset, count * size_bytes, words)

    try:
        fd = os.open(image, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # First in one piece, if the backing can; and what a quota or another writer would refuse is refused now.
            os.posix_fallocate(fd, 0, size_bytes)
            _past_the_cache(fd)
            _write_zeroes(fd, 0, size_bytes, told)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise ScratchError(
            f"{image} could not be written: {error.strerror}",
            "Make room there, or set TOOLKIT_SCRATCH to a folder with more room.",
        ) from error


def _write_zeroes(fd: int, begin: int, end: int, told: Callable[[int], None]) -> None:
    # Direct I/O wants memory that begins at a page.
    with mmap.mmap(-1, _CHUNK_BYTES) as zeroes, memoryview(zeroes) as view:
        while begin < end:
            told(begin)
            begin += os.pwrite(fd, view[: min(_CHUNK_BYTES, end - begin)], begin)


def fill_again(image: Path) -> None:
    """Write zeroes where mkfs let go what was written: it clears inode tables and logs by fallocate, as a hole or as unwritten."""
    fd = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # lseek(2) takes what is unwritten for a hole, but not while it is in the page cache.
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size_bytes = os.fstat(fd).st_size
        begin = os.lseek(fd, 0, os.SEEK_HOLE)
        while begin < size_bytes:
            _write_zeroes(fd, begin, _data_after(fd, begin, size_bytes), _untold)
            begin = os.lseek(fd, begin, os.SEEK_HOLE)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _untold(_: int) -> None:
    """Say nothing: the gaps are small."""


def _data_after(fd: int, hole: int, size_bytes: int) -> int:
    try:
        return os.lseek(fd, hole, os.SEEK_DATA)
    except OSError as error:
        # lseek(2): there is no data up to the end.
        if error.errno != errno.ENXIO:
            raise
        return size_bytes


def _past_the_cache(fd: int) -> None:
    """Write with direct I/O from here on, where the backing can: several times as fast, and it leaves the page cache alone."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
