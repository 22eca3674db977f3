"""Machine code as a function of this process, where the system lets it run some."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
from typing import Mapping, NamedTuple

__all__ = ["Executable", "executable"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Executable(NamedTuple):
    """Where the code lies, or why it cannot.

    Attributes
    ----------
    address : int or None
        Its first instruction; None where there is none.
    page : mmap or None
        Its memory: whoever may call it must keep this.
    why_not : str or None
        Why there is none here; None where there is.
    """

    address: int | None
    page: mmap.mmap | None
    why_not: str | None


def executable(codes: Mapping[str, bytes]) -> Executable:
    """Put the code for this machine where it can be called.

    Parameters
    ----------
    codes : mapping
        By machine as uname(2) names it: less than a page.

    Examples
    --------
    >>> executable({}).why_not is None
    False
    """
    machine = platform.machine()
    code = codes.get(machine)
    if code is None or sys.maxsize < 2**32:
        return Executable(None, None, f"there is no machine code for {machine} here")
    # Written first, then made executable and never writable again; the kernel brings the instruction cache up to date at that.
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if _libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        reason = os.strerror(ctypes.get_errno())
        return Executable(None, None, f"the system does not let this process execute memory that it wrote ({reason})")
    return Executable(address, page, None)
