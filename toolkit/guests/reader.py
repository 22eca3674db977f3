"""The program that reads a source in a guest without Python, and writes down when: an ELF file of some four hundred bytes.

A guest that is booted to see how its random number generator fares holds a kernel, busybox and this. Busybox has no getrandom, and
a shell's clock is no instrument. So the loop ``clock_gettime, read, clock_gettime`` stands here as machine code, made anew for each
reading, with its source, its block and its budget in it. Records go to a mapped file, its standard output: no system call lies
between two reads but the clock's, and a read that never returns is there too, as one that was called, after the program is killed.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from toolkit.errors import UsageError
from toolkit.sensors.source_reader import GETRANDOM

__all__ = ["MACHINE_CODE", "RECORD_BYTES", "Reading", "program", "readings"]

#: x86-64, as Linux starts a program: no registers are given. tests/guests/test_reader.py assembles what the comments say.
MACHINE_CODE = bytes.fromhex(
    "4531ed"  # xor %r13d, %r13d                        getrandom has no file
    "803c255013400000"  # cmpb $0, 0x401350             path: empty for getrandom
    "7419"  # je map
    "b802000000"  # mov $2, %eax                        open(path, flags)
    "bf50134000"  # mov $0x401350, %edi
    "488b342528134000"  # mov 0x401328, %rsi            flags
    "31d2"  # xor %edx, %edx
    "0f05"  # syscall
    "4989c5"  # mov %rax, %r13                          the file, or what refused it
    "b809000000"  # map: mov $9, %eax                   mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, 1, 0)
    "31ff"  # xor %edi, %edi
    "488b342500134000"  # mov 0x401300, %rsi            length
    "ba03000000"  # mov $3, %edx
    "41ba01000000"  # mov $1, %r10d
    "41b801000000"  # mov $1, %r8d
    "4531c9"  # xor %r9d, %r9d
    "0f05"  # syscall
    "4885c0"  # test %rax, %rax
    "0f8806010000"  # js failed
    "4889c3"  # mov %rax, %rbx                          the record that is written next
    "4889042500134000"  # mov %rax, 0x401300
    "4c896b10"  # mov %r13, 16(%rbx)                    what refused the file, if anything did
    "4d85ed"  # test %r13, %r13
    "0f88ee000000"  # js failed
    "41bf10134000"  # mov $0x401310, %r15d              until = now + budget
    "e8ef000000"  # call clock
    "488b042508134000"  # mov 0x401308, %rax            budget
    "4801042510134000"  # add %rax, 0x401310            until
    "4989df"  # again: mov %rbx, %r15                   called_ns
    "e8d7000000"  # call clock
    "488b142520134000"  # try: mov 0x401320, %rdx       block
    "803c255013400000"  # cmpb $0, 0x401350
    "740e"  # je draw
    "31c0"  # xor %eax, %eax                            read(file, buffer, block)
    "4c89ef"  # mov %r13, %rdi
    "bea0134000"  # mov $0x4013a0, %esi
    "0f05"  # syscall
    "eb11"  # jmp gave
    "b83e010000"  # draw: mov $318, %eax                getrandom(buffer, block, 0)
    "bfa0134000"  # mov $0x4013a0, %edi
    "4889d6"  # mov %rdx, %rsi
    "31d2"  # xor %edx, %edx
    "0f05"  # syscall
    "4883f8f5"  # gave: cmp $-11, %rax                  EAGAIN: it has nothing yet
    "751f"  # jne came
    "e8a4000000"  # call now
    "483b042510134000"  # cmp 0x401310, %rax
    "7369"  # jae done                                  the budget is used up: a read that has not returned
    "b823000000"  # mov $35, %eax                       nanosleep(pause, 0); a pause of nothing returns at once
    "bf30134000"  # mov $0x401330, %edi
    "31f6"  # xor %esi, %esi
    "0f05"  # syscall
    "ebaa"  # jmp try
    "48894310"  # came: mov %rax, 16(%rbx)              what it gave
    "4989c6"  # mov %rax, %r14
    "4c8d7b08"  # lea 8(%rbx), %r15                     returned_ns
    "e871000000"  # call clock
    "4d85f6"  # test %r14, %r14
    "7e44"  # jle done                                  an error, or the end of a file
    "488b4308"  # mov 8(%rbx), %rax
    "483b042510134000"  # cmp 0x401310, %rax
    "7336"  # jae done                                  the budget is used up
    "488b042540134000"  # mov 0x401340, %rax            rest between two reads; without one there is no call
    "480b042548134000"  # or 0x401348, %rax
    "740e"  # jz next
    "b823000000"  # mov $35, %eax                       nanosleep(rest, 0)
    "bf40134000"  # mov $0x401340, %edi
    "31f6"  # xor %esi, %esi
    "0f05"  # syscall
    "4883c318"  # next: add $24, %rbx
    "48ff0c2518134000"  # decq 0x401318                 most
    "0f854dffffff"  # jnz again
    "4883eb18"  # sub $24, %rbx
    "b84d000000"  # done: mov $77, %eax                 ftruncate(1, what was written): this record, and those before
    "bf01000000"  # mov $1, %edi
    "488d7318"  # lea 24(%rbx), %rsi
    "482b342500134000"  # sub 0x401300, %rsi            the mapping's address, in place of its length
    "0f05"  # syscall
    "31ff"  # xor %edi, %edi
    "eb05"  # jmp leave
    "bf01000000"  # failed: mov $1, %edi
    "b83c000000"  # leave: mov $60, %eax                exit(edi)
    "0f05"  # syscall
    "e804000000"  # clock: call now                     in ns to where r15 says
    "498907"  # mov %rax, (%r15)
    "c3"  # ret
    "b8e4000000"  # now: mov $228, %eax                 clock_gettime(CLOCK_BOOTTIME, timespec), in ns
    "bf07000000"  # mov $7, %edi
    "be90134000"  # mov $0x401390, %esi
    "0f05"  # syscall
    "486904259013400000ca9a3b"  # imul $1000000000, 0x401390, %rax
    "4803042598134000"  # add 0x401398, %rax
    "c3"  # ret
)

# elf(5): the code, with the headers, and the data that it names by its address. They have a page each: where QEMU translates a
# guest, to write beside code is to have it translated again, and a guest drew its bytes a fifth to a third slower.
_CODE = 0x400000
_HEADERS = struct.Struct("<4s5B7x2HI3QI6H" + 2 * "2I6Q")
_PAGE_BYTES = 0x1000
_DATA_AT = 0x300
_DATA = _CODE + _PAGE_BYTES + _DATA_AT
_PLACES = struct.Struct("<QQQQQQQQQQ64s")
_TIMESPEC_BYTES = 16
_MOST_BLOCK_BYTES = 1 << 16

_RECORD = struct.Struct("<qqq")
#: A record's size: when it was called and when it returned (CLOCK_BOOTTIME, ns), and what it gave.
RECORD_BYTES = _RECORD.size

_NS_PER_S = 10**9
# A budget that is never used up: with any time since boot it still fits a register.
_MOST_S = 2.0**32
# include/linux/err.h: MAX_ERRNO. A call of the kernel's fails with no other number.
_MOST_ERRNO = 4095


class Reading(NamedTuple):
    """One read.

    Attributes
    ----------
    called_ns : int
        CLOCK_BOOTTIME.
    returned_ns : int or None
        CLOCK_BOOTTIME; None if it had not returned.
    read_bytes : int or None
        What it gave; None if it failed, or had not returned.
    errno : int or None
        Why it failed.
    """

    called_ns: int
    returned_ns: int | None
    read_bytes: int | None
    errno: int | None


def program(
    source: str, block_bytes: int, budget_s: float, most_reads: int, *, pause_s: float | None = None, rest_s: float = 0.0
) -> bytes:
    r"""Make the program; it ends when its budget is used up, after the most reads, or with an error.

    Parameters
    ----------
    source : str
        ``getrandom``, or a path in the guest.
    block_bytes : int
        What it asks for at once, 64 KiB at most.
    budget_s : float
        Looked at after each read: one that waits in the kernel is not cut short.
    most_reads : int
        How many; its standard output must be a file of as many records, for reading and writing.
    pause_s : float, optional
        Ask without waiting, and after an answer of nothing ask again after this pause: a driver that keeps a waiting reader until
        all it asked for is there gives what has come to one that does not wait. Such a read is one, from its first call on.
    rest_s : float
        Between two reads: readers that never rest wait for the processor, not for the source.

    Raises
    ------
    UsageError
        If a block or a path is too long, or nothing could be read.

    Examples
    --------
    >>> program("getrandom", 32, 1.0, 10)[:4]
    b'\x7fELF'
    """
    path = b"" if source == GETRANDOM else source.encode()
    named = bool(path) is (source != GETRANDOM) and len(path) <= 63 and b"\0" not in path
    if not named or not 1 <= block_bytes <= _MOST_BLOCK_BYTES or most_reads < 1 or not budget_s >= 0:
        raise UsageError(
            f"{source!r} cannot be read in blocks of {block_bytes} bytes, {most_reads} times",
            "Give getrandom or a path of at most 63 bytes, 1 byte to 64 KiB, and at least one read.",
        )
    budget_ns = round(min(budget_s, _MOST_S) * _NS_PER_S)
    flags = 0 if pause_s is None else os.O_NONBLOCK
    pause, rest = (divmod(round(seconds * _NS_PER_S), _NS_PER_S) for seconds in (pause_s or 0.0, rest_s))
    data = _PLACES.pack(most_reads * RECORD_BYTES, budget_ns, 0, most_reads, block_bytes, flags, *pause, *rest, path)
    memory_bytes = len(data) + _TIMESPEC_BYTES + _MOST_BLOCK_BYTES
    headers = _HEADERS.pack(
        *(b"\x7fELF", 2, 1, 1, 0, 0),  # 64 bits, little-endian
        *(2, 62, 1, _CODE + _HEADERS.size, 64, 0, 0, 64, 56, 2, 64, 0, 0),  # an executable for x86-64 with two program headers
        *(1, 5, 0, _CODE, _CODE, _DATA_AT, _DATA_AT, _PAGE_BYTES),  # loaded as it is; read and executed
        *(1, 6, _DATA_AT, _DATA, _DATA, len(data), memory_bytes, _PAGE_BYTES),  # read and written
    )
    return (headers + MACHINE_CODE).ljust(_DATA_AT, b"\0") + data


def readings(records: bytes) -> list[Reading]:
    """The reads that a program wrote down; a time that cannot be ends them, since a guest may have written anything.

    Examples
    --------
    >>> readings(_RECORD.pack(5, 9, 32) + _RECORD.pack(9, 0, 0) + bytes(48))[1]
    Reading(called_ns=9, returned_ns=None, read_bytes=None, errno=None)
    """
    found = []
    before = 0
    for called, returned, gave in _RECORD.iter_unpack(records[: len(records) // RECORD_BYTES * RECORD_BYTES]):
        if gave < -_MOST_ERRNO:
            break
        errno = -gave if gave < 0 else None
        if errno and not called:  # it could not be opened
            found.append(Reading(before, before, None, errno))
        if called < max(before, 1) or (returned and returned < called):
            break
        found.append(Reading(called, returned or None, gave if returned and gave >= 0 else None, errno))
        if not returned:
            break
        before = returned
    return found
