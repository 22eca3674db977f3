"""A row of calls into the C library, one after the other, with no Python between them: machine code goes through a table.

After a millisecond of sleep the processor's caches are cold, and what Python does between two calls then costs more than the calls:
a look at 1 kHz took 54 µs of processor time as plain Python, 37 as its shortest loop, and 25 in C (medians in one minute of one
virtual machine). Calls that wait for a timer and look, for some hundred moments, are therefore written into a table beforehand and
made in a row, as a program in C makes them; other threads may run meanwhile.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import lru_cache
from typing import Callable, NamedTuple, Sequence

from toolkit.sensors.machine_code import executable

__all__ = ["MACHINE_CODE", "NUMBERS_A_CALL", "RESULT", "CallRow", "call_row"]

#: A line of the table in 64-bit numbers: how many, and which of them is what the call gave.
NUMBERS_A_CALL, RESULT = 6, 5

#: By machine as uname(2) names it: a function (table, calls) of the platform's C calling convention, that gives the calls not made.
#: A call ends the row if what it gives is below zero as an int. tests/sensors/test_machine_code.py assembles what the comments say.
MACHINE_CODE: dict[str, bytes] = {
    "x86_64": bytes.fromhex(
        "f30f1efa"  # endbr64                       where indirect calls are checked, this is where one may land
        "53"  # push %rbx                           what a function must give back as it was
        "55"  # push %rbp
        "4154"  # push %r12                         the stack on a multiple of 16 at the call
        "4889fb"  # mov %rdi, %rbx                  table
        "4889f5"  # mov %rsi, %rbp                  calls left
        "4885ed"  # again: test %rbp, %rbp
        "7423"  # jz done
        "488b7b08"  # mov 8(%rbx), %rdi             the arguments
        "488b7310"  # mov 16(%rbx), %rsi
        "488b5318"  # mov 24(%rbx), %rdx
        "488b4b20"  # mov 32(%rbx), %rcx
        "ff13"  # call *(%rbx)
        "48894328"  # mov %rax, 40(%rbx)            what it gave
        "85c0"  # test %eax, %eax
        "7809"  # js done
        "4883c330"  # add $48, %rbx
        "48ffcd"  # dec %rbp
        "ebd8"  # jmp again
        "4889e8"  # done: mov %rbp, %rax
        "415c"  # pop %r12
        "5d"  # pop %rbp
        "5b"  # pop %rbx
        "c3"  # ret
    ),
    "aarch64": bytes.fromhex(
        "5f2403d5"  # hint #34                      bti c: where indirect calls are checked, this is where one may land
        "fd7bbea9"  # stp x29, x30, [sp, #-32]!     what a function must give back as it was
        "fd030091"  # mov x29, sp
        "f35301a9"  # stp x19, x20, [sp, #16]
        "f30300aa"  # mov x19, x0                   table
        "f40301aa"  # mov x20, x1                   calls left
        "540100b4"  # again: cbz x20, done
        "680240a9"  # ldp x8, x0, [x19]             the function, the arguments
        "610a41a9"  # ldp x1, x2, [x19, #16]
        "631240f9"  # ldr x3, [x19, #32]
        "00013fd6"  # blr x8
        "601600f9"  # str x0, [x19, #40]            what it gave
        "8000f837"  # tbnz w0, #31, done
        "73c20091"  # add x19, x19, #48
        "940600d1"  # sub x20, x20, #1
        "f7ffff17"  # b again
        "e00314aa"  # done: mov x0, x20
        "f35341a9"  # ldp x19, x20, [sp, #16]
        "fd7bc2a8"  # ldp x29, x30, [sp], #32
        "c0035fd6"  # ret
    ),
}

_MOST_ARGUMENTS = 4


class _Call(ctypes.Structure):
    """One line of the table: the function, its arguments, and room for what it gives."""

    _fields_ = [
        ("function", ctypes.c_void_p),
        ("arguments", ctypes.c_uint64 * _MOST_ARGUMENTS),
        ("result", ctypes.c_int64),
    ]


class CallRow:
    """Calls in a row; :func:`call_row` gives a maker of them.

    Parameters
    ----------
    function
        The machine code.
    calls : sequence of (function of libc, its arguments)
        At most four whole numbers or addresses each. What an address points to must be kept by the caller.
    memory : writable buffer, optional
        Where the table is to lie: ``NUMBERS_A_CALL`` numbers of 64 bits a call.

    Examples
    --------
    >>> maker, moment = call_row(), ctypes.create_string_buffer(16)
    >>> row = maker.make and maker.make([("clock_gettime", [1, ctypes.addressof(moment)])])
    >>> row is None or row(1)
    True
    """

    def __init__(
        self, function: Callable[[object, int], int], calls: Sequence[tuple[str, Sequence[int]]], memory: memoryview | None = None
    ) -> None:
        self._function = function
        libc = ctypes.CDLL(None)
        found = {name: ctypes.cast(getattr(libc, name), ctypes.c_void_p).value for name in {name for name, _ in calls}}
        table = _Call * len(calls)
        self._table = table() if memory is None else table.from_buffer(memory)
        for line, (name, arguments) in zip(self._table, calls):
            line.function = found[name]
            for place, value in enumerate(arguments):
                line.arguments[place] = value

    def __call__(self, calls: int) -> bool:
        """Make the first so many; says whether all were made, and otherwise ``ctypes.get_errno()`` says why the last failed."""
        return self._function(self._table, min(calls, len(self._table))) == 0


class _Maker(NamedTuple):
    """``make(calls)`` or ``make(calls, memory)`` gives a row of calls, None where ``why_not`` says why there is none."""

    make: Callable[..., CallRow] | None
    why_not: str | None


@lru_cache(maxsize=None)
def call_row() -> _Maker:
    """What makes rows of calls on this machine."""
    address, page, why_not = executable(MACHINE_CODE)
    if address is None:
        return _Maker(None, why_not)
    function = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, use_errno=True)(address)

    def make(
        calls: Sequence[tuple[str, Sequence[int]]], memory: memoryview | None = None, _page: mmap.mmap | None = page
    ) -> CallRow:
        return CallRow(function, calls, memory)

    return _Maker(make, None)
