"""Writes block after block as a program in C does: the loop is machine code, so that no Python lies between two writes.

Python's own shortest loop, ``sum(map(os.write, …))``, costs 200 to 400 ns a call more than C (measured with 4 KiB blocks on tmpfs
and ext4, 6 to 13 % of the whole): converting arguments and result, giving the interpreter's lock away and taking it back, all from
caches and branch predictors that each system call leaves cold. For that reason it cannot be measured apart and told beside the
figure either. What a C compiler makes of ``while (calls && write(fd, block, length) == length) calls--;`` is some thirty
instructions, so they stand here, for the machines that hypervisors mostly run on. Elsewhere, or where the system allows no memory
to be executed, :func:`native_loop` says why, and :mod:`toolkit.sensors.allocation` loops in Python and estimates what that costs.

They call libc's ``write``, as a program does. The bare system call would be 600 ns a call *faster* (measured with kernel 6.18 on a
processor that guards its returns against speculation): no program in the field has that figure.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from functools import lru_cache
from typing import Callable, NamedTuple

from toolkit.sensors.machine_code import executable

__all__ = ["MACHINE_CODE", "NativeLoop", "native_loop"]

#: By machine as uname(2) names it: a function (fd, block, length, calls, &calls_left, write) of the platform's C calling
#: convention, that gives the last call's result. tests/sensors/test_machine_code.py assembles what the comments say, and compares.
MACHINE_CODE: dict[str, bytes] = {
    "x86_64": bytes.fromhex(
        "f30f1efa"  # endbr64                       where indirect calls are checked, this is where one may land
        "53"  # push %rbx                           what a function must give back as it was
        "55"  # push %rbp
        "4154"  # push %r12
        "4155"  # push %r13
        "4156"  # push %r14
        "4150"  # push %r8                          where the calls left are to be written
        "4883ec08"  # sub $8, %rsp                  the stack on a multiple of 16 at the call
        "4889fb"  # mov %rdi, %rbx                  fd
        "4889f5"  # mov %rsi, %rbp                  block
        "4989d4"  # mov %rdx, %r12                  length
        "4989cd"  # mov %rcx, %r13                  calls left
        "4d89ce"  # mov %r9, %r14                   write
        "4889d0"  # mov %rdx, %rax                  the result if there is nothing to call
        "4d85ed"  # again: test %r13, %r13
        "7415"  # jz done
        "89df"  # mov %ebx, %edi
        "4889ee"  # mov %rbp, %rsi
        "4c89e2"  # mov %r12, %rdx
        "41ffd6"  # call *%r14
        "4c39e0"  # cmp %r12, %rax                  all of the block, or else a short write or an error
        "7505"  # jne done
        "49ffcd"  # dec %r13
        "ebe6"  # jmp again
        "4883c408"  # done: add $8, %rsp
        "4158"  # pop %r8
        "4d8928"  # mov %r13, (%r8)
        "415e"  # pop %r14
        "415d"  # pop %r13
        "415c"  # pop %r12
        "5d"  # pop %rbp
        "5b"  # pop %rbx
        "c3"  # ret
    ),
    "aarch64": bytes.fromhex(
        "5f2403d5"  # hint #34                      bti c: where indirect calls are checked, this is where one may land
        "fd7bbca9"  # stp x29, x30, [sp, #-64]!     what a function must give back as it was
        "fd030091"  # mov x29, sp
        "f35301a9"  # stp x19, x20, [sp, #16]
        "f55b02a9"  # stp x21, x22, [sp, #32]
        "f71303a9"  # stp x23, x4, [sp, #48]        x4: where the calls left are to be written
        "f30300aa"  # mov x19, x0                   fd
        "f40301aa"  # mov x20, x1                   block
        "f50302aa"  # mov x21, x2                   length
        "f60303aa"  # mov x22, x3                   calls left
        "f70305aa"  # mov x23, x5                   write
        "e00302aa"  # mov x0, x2                    the result if there is nothing to call
        "360100b4"  # again: cbz x22, done
        "e00313aa"  # mov x0, x19
        "e10314aa"  # mov x1, x20
        "e20315aa"  # mov x2, x21
        "e0023fd6"  # blr x23
        "1f0015eb"  # cmp x0, x21                   all of the block, or else a short write or an error
        "61000054"  # b.ne done
        "d60600d1"  # sub x22, x22, #1
        "f8ffff17"  # b again
        "f71343a9"  # done: ldp x23, x4, [sp, #48]
        "960000f9"  # str x22, [x4]
        "f55b42a9"  # ldp x21, x22, [sp, #32]
        "f35341a9"  # ldp x19, x20, [sp, #16]
        "fd7bc4a8"  # ldp x29, x30, [sp], #64
        "c0035fd6"  # ret
    ),
}

_libc = ctypes.CDLL(None)


class NativeLoop(NamedTuple):
    """The loop, or why there is none.

    Attributes
    ----------
    write : callable or None
        ``write(fd, block, calls)`` writes the block so many times and gives the bytes written: fewer after a short write or a
        signal, and what is missing is for the caller to write. Raises OSError if a write fails.
    why_not : str or None
        Why there is no such loop here; None where there is.
    """

    write: Callable[[int, bytes, int], int] | None
    why_not: str | None


@lru_cache(maxsize=None)
def native_loop() -> NativeLoop:
    """The loop for this machine, made once.

    Returns
    -------
    NativeLoop

    Examples
    --------
    >>> import os, tempfile
    >>> loop = native_loop()
    >>> with tempfile.TemporaryFile() as file:
    ...     loop.write is None or loop.write(file.fileno(), b"four", 3) == os.fstat(file.fileno()).st_size == 12
    True
    """
    address, page, why_not = executable(MACHINE_CODE)
    if address is None or page is None:
        return NativeLoop(None, why_not)
    # The function keeps the page: its memory must stay for as long as the function can be called.
    return NativeLoop(_callable(address, page), None)


def _callable(address: int, page: mmap.mmap) -> Callable[[int, bytes, int], int]:
    size = ctypes.c_size_t
    arguments = (ctypes.c_int, ctypes.c_char_p, size, size, ctypes.POINTER(size), ctypes.c_void_p)
    function = ctypes.CFUNCTYPE(ctypes.c_ssize_t, *arguments, use_errno=True)(address)
    libc_write = ctypes.cast(_libc.write, ctypes.c_void_p)

    def write(fd: int, block: bytes, calls: int, _page: mmap.mmap = page) -> int:
        left = size(calls)
        result: int = function(fd, block, len(block), calls, ctypes.byref(left), libc_write)
        whole = (calls - left.value) * len(block)
        if result >= 0:
            return whole + (result if left.value else 0)
        code = ctypes.get_errno()
        if code == errno.EINTR:
            return whole
        raise OSError(code, os.strerror(code))

    return write
