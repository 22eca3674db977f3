"""The allocation method ``mmap_memset``, as a program of its own: standard output says what it cost.

A process that writes to a mapping which the file system has no room for is killed by SIGBUS. So the mapping is written by a child,
started by :mod:`toolkit.sensors.allocation`, and what happened to the child is what is measured. It imports nothing of the toolkit,
so that it can be run as a file, without the site's packages, in a few milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

__all__ = ["memset_mapped"]

# include/uapi/linux/mman.h and include/uapi/asm-generic/mman-common.h.
_PROT_READ_WRITE = 0x1 | 0x2
_MAP_SHARED = 0x01

# PR_SET_PDEATHSIG of include/uapi/linux/prctl.h; SIGKILL.
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)
# The name that has 64-bit offsets on every machine; musl, where all have them, does without it.
_mmap = _libc.mmap64 if hasattr(_libc, "mmap64") else _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_memset = _libc.memset
_memset.restype = ctypes.c_void_p
_memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value


def memset_mapped(fd: int, size_bytes: int) -> tuple[int, int]:
    """Lengthen the file, map it, write zeroes to all of it, unmap it: the four calls that libvirt made for this method in 2009.

    Returns
    -------
    tuple of int
        Nanoseconds for the four calls, and for the same steps over calls that do nothing: the instrument's own cost.

    Raises
    ------
    OSError
        If the file cannot be lengthened or mapped. Where the file system runs full, SIGBUS ends the process instead.
    """
    # Called once first, so that nothing is looked up or paged in within the timing.
    here = ctypes.create_string_buffer(1)
    overhead_ns = min(_idle(ctypes.addressof(here)) for _ in range(5))
    begun = time.perf_counter_ns()
    os.ftruncate(fd, size_bytes)
    address = _mmap(None, size_bytes, _PROT_READ_WRITE, _MAP_SHARED, fd, 0)
    if address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    _memset(address, 0, size_bytes)
    _munmap(address, size_bytes)
    return time.perf_counter_ns() - begun, overhead_ns


def _idle(address: int) -> int:
    """Four calls that do nothing, three of them through ctypes, timed."""
    begun = time.perf_counter_ns()
    divmod(1, 1)
    _memset(address, 0, 0)
    _memset(address, 0, 0)
    _memset(address, 0, 0)
    return time.perf_counter_ns() - begun


def _main() -> None:
    fd, size_bytes, parent = (int(word) for word in sys.argv[1:])
    # Whoever kills the toolkit kills its measurement: a child that went on would keep the file system busy.
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    # A parent that was interrupted before it knew of us never says that we may begin.
    if os.getppid() != parent or not os.read(0, 1):
        return
    try:
        print(*memset_mapped(fd, size_bytes))  # noqa: T201
    except OSError as error:
        print("errno", error.errno)  # noqa: T201


if __name__ == "__main__":
    _main()
