"""The ways to allocate a file, timed: one call, one fresh file, one method.

The method alone is timed, then fsync apart. What the instrument itself costs (its loop over a call that does nothing) is measured
beside it and given as ``overhead_ns``, never subtracted. In which order files are allocated, where and how often is an experiment's
business, as is removing them.

The methods that write are looped by :mod:`toolkit.sensors.write_loop`, as exact as C; where it has no loop for a machine, by
``sum(map(os.write, …))``. A call then costs, beyond what C pays, the map's step, converting the arguments and the result, and
giving the interpreter's lock away and taking it back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import statistics
import subprocess
import sys
import time
import zlib
from functools import lru_cache
from itertools import repeat
from typing import Callable, NamedTuple

from toolkit.errors import UsageError
from toolkit.sensors import mapping
from toolkit.sensors.write_loop import native_loop

__all__ = ["METHODS", "Allocation", "allocate", "check_methods"]

_KIB = 1024

#: Block sizes of the methods that write, in bytes.
_BLOCKS: dict[str, int] = {"write_4k": 4 * _KIB, "write_8k": 8 * _KIB, "write_64k": 64 * _KIB}

#: Every method, in the order in which they are shown.
METHODS: tuple[str, ...] = ("posix_fallocate", "fallocate", "mmap_memset", *_BLOCKS, "ftruncate")

# Bytes written between two looks at signals: within sum(map(…)) Python handles none.
_UNINTERRUPTED = 64 * _KIB * _KIB

_libc = ctypes.CDLL(None, use_errno=True)


def _bind(name: str) -> Callable[[int, int, int, int], int]:
    """A function of libc as (int, int, 64-bit, 64-bit) -> int that keeps errno."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, use_errno=True)
    return prototype((name, _libc))


# The name that has 64-bit offsets on every machine; musl, where all have them, does without it.
_fallocate = _bind("fallocate64" if hasattr(_libc, "fallocate64") else "fallocate")
# Takes one argument and ignores the rest, as every calling convention of Linux allows: a call of the same shape that does nothing.
_nothing = _bind("abs")


class Allocation(NamedTuple):
    """What one allocation cost and gave.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`.
    size_bytes : int
        The size asked for.
    allocate_ns : int or None
        The method alone; None where it failed.
    overhead_ns : int or None
        The instrument's own cost within ``allocate_ns``; None where the method failed.
    sync_ns : int or None
        fsync after the method; None where the method or fsync failed.
    errno : int or None
        The number of the first error, of the method or of fsync; None where there was none.
    emulated : bool or None
        Whether ``posix_fallocate`` wrote the blocks itself because the file system has no fallocate. None for other methods, and
        where that cannot be told.
    allocated_bytes : int or None
        What the file system truly gave (st_blocks), also where it ran full; None where the file could not be asked. Of the file at
        rest: while one is written, xfs reserves up to as much again past its end, and takes it back at the close.
    """

    method: str
    size_bytes: int
    allocate_ns: int | None = None
    overhead_ns: int | None = None
    sync_ns: int | None = None
    errno: int | None = None
    emulated: bool | None = None
    allocated_bytes: int | None = None


def check_methods(methods: tuple[str, ...]) -> None:
    """Refuse a method that there is not.

    Raises
    ------
    UsageError
        The message lists those there are.
    """
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"there is no allocation method {method!r}", "The methods are: {}.".format(", ".join(METHODS)))


def allocate(path: str, method: str, size_bytes: int, dir_fd: int | None = None) -> Allocation:
    """Make a file, allocate it by one method, and time that; the file is closed then, and left.

    Parameters
    ----------
    path : str
        The file; there must be none yet.
    method : str
        One of :data:`METHODS`. ``posix_fallocate`` is libc's, which writes the blocks itself where the file system cannot
        allocate; ``fallocate`` is the system call with mode 0; ``mmap_memset`` is ftruncate, mmap, memset and munmap, in a child
        process (see :mod:`toolkit.sensors.mapping`); ``write_*`` write zeroes in blocks of that size, the last one cut to fit;
        ``ftruncate`` only sets the size, the contrast.
    size_bytes : int
        How much.
    dir_fd : int, optional
        An open folder that ``path`` is relative to.

    Returns
    -------
    Allocation
        An error of the kernel (no space, quota, I/O) is an ``errno`` here, not an exception.

    Raises
    ------
    UsageError
        If there is no such method, or the size is not above zero.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = allocate(os.path.join(folder, "fresh"), "write_4k", 10_000)
    >>> done.errno is None, done.allocated_bytes >= 10_000
    (True, True)
    """
    check_methods((method,))
    if size_bytes < 1:
        raise UsageError(f"{size_bytes} bytes cannot be allocated", "Give a size above zero.")
    failed: int | None = None
    allocate_ns = overhead_ns = sync_ns = emulated = None
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600, dir_fd=dir_fd)
        try:
            allocate_ns, overhead_ns = _timed(fd, method, size_bytes)
            begun = time.perf_counter_ns()
            os.fsync(fd)
            sync_ns = time.perf_counter_ns() - begun
        finally:
            emulated = _refuses_fallocate(fd) if method == "posix_fallocate" else None
            os.close(fd)
    except OSError as error:
        failed = error.errno or errno.EIO
    allocated_bytes = _allocated_bytes(path, dir_fd)
    return Allocation(method, size_bytes, allocate_ns, overhead_ns, sync_ns, failed, emulated, allocated_bytes)


def _timed(fd: int, method: str, size_bytes: int) -> tuple[int, int]:
    """Nanoseconds of the method, and of the instrument."""
    if method == "mmap_memset":
        return _in_child(fd, size_bytes)
    if method in _BLOCKS:
        return _written(fd, _BLOCKS[method], size_bytes)
    call = {"posix_fallocate": _posix_fallocate, "fallocate": _raw_fallocate, "ftruncate": _ftruncate}[method]
    idle = {"posix_fallocate": _idle, "fallocate": _raw_idle, "ftruncate": _idle}[method]
    overhead_ns = min(_clocked(idle, fd, size_bytes) for _ in range(5))
    return _clocked(call, fd, size_bytes), overhead_ns


def _clocked(call: Callable[[int, int], None], fd: int, size_bytes: int) -> int:
    begun = time.perf_counter_ns()
    call(fd, size_bytes)
    return time.perf_counter_ns() - begun


def _posix_fallocate(fd: int, size_bytes: int) -> None:
    os.posix_fallocate(fd, 0, size_bytes)


def _ftruncate(fd: int, size_bytes: int) -> None:
    os.ftruncate(fd, size_bytes)


def _idle(fd: int, size_bytes: int) -> None:
    max(fd, 0, size_bytes)


def _raw_fallocate(fd: int, size_bytes: int) -> None:
    # tmpfs gives up, and gives back, when a signal comes; Python has run its handler by the time we are here.
    while _fallocate(fd, 0, 0, size_bytes) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _raw_idle(fd: int, size_bytes: int) -> None:
    while _nothing(0, fd, 0, size_bytes) != 0:
        pass


def _written(fd: int, block_bytes: int, size_bytes: int) -> tuple[int, int]:
    """Write the file in blocks; as few Python steps as can be lie between two calls."""
    loop = native_loop().write or _python_loop
    block = bytes(block_bytes)
    blocks = size_bytes // block_bytes
    begun = time.perf_counter_ns()
    written = _blocks_written(loop, fd, block, blocks)
    # Beside the last, partial block this makes good what a short write left out. The next call then names the reason, if any.
    while written < size_bytes:
        written += os.write(fd, block[: size_bytes - written])
    allocate_ns = time.perf_counter_ns() - begun
    if loop is _python_loop:
        return allocate_ns, _overhead_of_writes(blocks + (size_bytes % block_bytes > 0))
    return allocate_ns, min(_overhead_of_parts(loop, fd, block, blocks) for _ in range(5))


def _blocks_written(loop: Callable[[int, bytes, int], int], fd: int, block: bytes, blocks: int) -> int:
    part = max(_UNINTERRUPTED // len(block), 1)
    written = 0
    for done in range(0, blocks, part):
        count = min(part, blocks - done)
        got = loop(fd, block, count)
        written += got
        if got < count * len(block):
            break
    return written


def _python_loop(fd: int, block: bytes, calls: int) -> int:
    return sum(map(os.write, repeat(fd), repeat(block, calls)))


def _overhead_of_parts(loop: Callable[[int, bytes, int], int], fd: int, block: bytes, blocks: int) -> int:
    """What the steps around the machine code take: the same, with no block written."""
    begun = time.perf_counter_ns()
    _blocks_written(lambda fd, block, calls: loop(fd, block, 0) or calls * len(block), fd, block, blocks)
    return time.perf_counter_ns() - begun


def _overhead_of_writes(blocks: int) -> int:
    """What so many calls from Python cost more than from C, in nanoseconds.

    The loop is the same; the call that does nothing, crc32 of no bytes, takes a buffer and a number and gives a number, as os.write
    does. It keeps the interpreter's lock, which os.write gives away and takes back, so that is added.
    """
    nothing = b""
    begun = time.perf_counter_ns()
    sum(map(zlib.crc32, repeat(nothing), repeat(4096, blocks)))
    return time.perf_counter_ns() - begun + round(blocks * _lock_ns())


@lru_cache(maxsize=None)
def _lock_ns() -> float:
    """Giving the interpreter's lock away and taking it back, in nanoseconds: one function called with and without that."""
    count = 20_000
    calls = []
    for library in (ctypes.CDLL, ctypes.PyDLL):
        function = library(None).abs
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
        calls.append(function)
    differences = []
    for _ in range(9):
        spent = []
        for function in calls:
            begun = time.perf_counter_ns()
            sum(map(function, repeat(0, count)))
            spent.append(time.perf_counter_ns() - begun)
        differences.append((spent[0] - spent[1]) / count)
    return max(statistics.median(differences), 0.0)


def _in_child(fd: int, size_bytes: int) -> tuple[int, int]:
    """mmap_memset in a process of its own, which a full file system kills by SIGBUS."""
    # -I and -S: nothing of the user's is imported, and it starts in a few milliseconds.
    command = [sys.executable, "-I", "-S", mapping.__file__, str(fd), str(size_bytes), str(os.getpid())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(fd,)
    ) as child:
        try:
            words = child.communicate(b"begin")[0].split()
        except BaseException:
            child.kill()
            child.wait()  # subprocess would leave it to the interpreter's end
            raise
    if child.returncode == 0 and len(words) == 2 and words[0] != b"errno":
        return int(words[0]), int(words[1])
    if child.returncode == 0 and len(words) == 2:
        code = int(words[1])
    elif child.returncode == -signal.SIGBUS:
        code = _why_no_page(fd, size_bytes)
    elif child.returncode == -signal.SIGKILL:
        # Nobody else kills a child of ours: memory ran out.
        code = errno.ENOMEM
    else:
        code = errno.EIO
    raise OSError(code, os.strerror(code))


def _why_no_page(fd: int, size_bytes: int) -> int:
    """The error behind a SIGBUS, which carries none: whatever refuses the pages that are missing.

    Not a single byte, which xfs, made to clear up by that very request, may find room for.
    """
    try:
        hole = os.lseek(fd, 0, os.SEEK_HOLE)
        os.posix_fallocate(fd, hole, size_bytes - hole)
    except OSError as error:
        # ENXIO: the file could not even be lengthened. EINVAL: no page is missing.
        if error.errno and error.errno not in (errno.ENXIO, errno.EINVAL):
            return error.errno
    return errno.EIO


def _refuses_fallocate(fd: int) -> bool | None:
    """Whether the file system has no fallocate for this file; None where it cannot be told.

    Asked after everything was timed, for a byte that is there already: where fallocate is known, nothing changes.
    """
    if _fallocate(fd, 0, 0, 1) == 0:
        return False
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return True
    return False if code in (errno.ENOSPC, errno.EDQUOT) else None


def _allocated_bytes(path: str, dir_fd: int | None) -> int | None:
    try:
        # st_blocks is in units of 512 bytes whatever the file system's block is (stat(2)).
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_blocks * 512
    except OSError:
        return None
