"""The records that frames carry (:mod:`toolkit.guests.wire`), each kind said once in terms of :mod:`struct`.

The host derives from it the dtype with which numpy reads a whole payload at once (:meth:`Layout.dtype`). Numbers are little-endian.
This file also travels into guests: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = [
    "ACK",
    "ALLOCATE",
    "ALLOCATIONS",
    "DONE",
    "ENDED",
    "HELLO",
    "LAYOUTS",
    "NULL",
    "NUMBERED",
    "READ_SOURCES",
    "SAMPLES",
    "SOURCE_READS",
    "STATE",
    "SYSTEM",
    "UNKNOWN_TIME",
    "WELCOME",
    "Layout",
]

#: A whole number that was not measured; no count, size, time since boot or truth is below zero.
NULL = -1
#: A time that was not measured.
UNKNOWN_TIME = -(2**63)


class Layout(NamedTuple):
    """How a record of one kind lies in memory.

    Attributes
    ----------
    kind : int
        As in the header.
    name : str
        For people.
    fields : tuple of (str, str)
        Name and :mod:`struct` code of each. Text is UTF-8 with zeros behind it. Whole numbers are null as :data:`NULL`, times as
        :data:`UNKNOWN_TIME`, floats as NaN, texts as a single byte 0xff, which no UTF-8 begins with.
    """

    kind: int
    name: str
    fields: tuple[tuple[str, str], ...]

    @property
    def struct(self) -> struct.Struct:
        """Packs and unpacks one record."""
        return struct.Struct("<" + "".join(code for _, code in self.fields))

    def dtype(self) -> dict[str, Any]:
        """What ``numpy.dtype`` takes to read records of this layout.

        Examples
        --------
        >>> LAYOUTS[ACK].dtype()
        {'names': ['number'], 'formats': ['<i8'], 'offsets': [0], 'itemsize': 8}
        """
        offsets, formats, at = [], [], 0
        for _, code in self.fields:
            size = struct.calcsize("<" + code)
            offsets.append(at)
            formats.append("S" + code[:-1] if code[-1] == "s" else "<" + _NUMPY[code] + str(size))
            at += size
        return {"names": [name for name, _ in self.fields], "formats": formats, "offsets": offsets, "itemsize": at}

    def pack(self, **values: Any) -> bytes:
        """One record; a text that is too long is cut at a character, and None is null.

        Examples
        --------
        >>> record = LAYOUTS[DONE].pack(request=7, records=2, errno=None, words="é" * 200)
        >>> next(LAYOUTS[DONE].unpack(record))["errno"] is None
        True
        """
        return self.struct.pack(*(_packed(name, code, values[name]) for name, code in self.fields))

    def unpack(self, payload: bytes) -> Iterator[dict[str, Any]]:
        """The records of a payload, text decoded with what is no UTF-8 escaped; only for kinds that come rarely."""
        for row in self.struct.iter_unpack(payload):
            yield {name: _unpacked(name, code, value) for (name, code), value in zip(self.fields, row)}


_NUMPY = {"q": "i", "Q": "u", "i": "i", "I": "u", "b": "i", "d": "f"}
_NO_TEXT = b"\xff"


def _packed(name: str, code: str, value: Any) -> Any:
    if code[-1] == "s":
        if value is None:
            return _NO_TEXT
        # Half a character at the cut is left out.
        raw = str(value).encode("utf-8", "backslashreplace")
        return raw if len(raw) <= int(code[:-1]) else raw[: int(code[:-1])].decode("utf-8", "ignore").encode()
    if value is None:
        return float("nan") if code == "d" else UNKNOWN_TIME if name == "utc_ns" else NULL
    return value


def _unpacked(name: str, code: str, value: Any) -> Any:
    if code[-1] == "s":
        text = bytes(value).rstrip(b"\0")
        return None if text == _NO_TEXT else text.decode("utf-8", "backslashreplace")
    if code == "d":
        return None if value != value else value
    return None if value == (UNKNOWN_TIME if name == "utc_ns" else NULL) else value


# From the guest.
HELLO, STATE, SAMPLES, SYSTEM, SOURCE_READS, ALLOCATIONS, DONE, ENDED = range(1, 9)
# From the host.
WELCOME, ACK, READ_SOURCES, ALLOCATE = range(32, 36)

#: Kinds whose records are numbered in the order in which the agent made them, kept by it until the host has stored them, and so
#: never lost unseen.
NUMBERED = frozenset((SAMPLES, SYSTEM, SOURCE_READS, ALLOCATIONS, DONE))

_WHEN = (("t_ns", "q"), ("utc_ns", "q"))

#: Every kind of record. Field names are those of the tables' columns where there is one.
LAYOUTS: dict[int, Layout] = {
    layout.kind: layout
    for layout in (
        # Who speaks. answers: the nonce of the WELCOME that it answers, 0 where there was none. made, acknowledged, dropped:
        # records so far that were made, that the host said it has, and that were dropped without its having said so.
        Layout(
            HELLO,
            "hello",
            (
                ("answers", "Q"),
                *_WHEN,
                ("boot_id", "36s"),
                ("kernel", "80s"),
                ("host_name", "64s"),
                ("agent_version", "24s"),
                ("python", "16s"),
                ("interval_ns", "q"),
                ("made", "q"),
                ("acknowledged", "q"),
                ("dropped", "q"),
                ("cpu_model", "64s"),
                ("cpu_count", "i"),
                ("memory_bytes", "q"),
                ("allows", "48s"),
            ),
        ),
        Layout(
            STATE,
            "state",
            (
                ("regime", "16s"),
                ("poolsize_bits", "i"),
                ("crng_ready", "b"),
                ("crng_ready_s", "d"),
                ("urandom_warnings", "q"),
                ("vm_fork_reseeds", "q"),
                ("hwrng_available", "128s"),
                ("hwrng_current", "64s"),
                ("hwrng_quality", "i"),
                ("cpu_rdrand", "b"),
                ("cpu_rdseed", "b"),
                ("trust_cpu", "b"),
                ("feeders", "64s"),
            ),
        ),
        Layout(
            SAMPLES, "samples", (*_WHEN, ("entropy_avail_bits", "i"), ("crng_ready", "b"), ("random_readable", "b"), ("pad", "2s"))
        ),
        Layout(
            SYSTEM,
            "system samples",
            (*_WHEN, ("cpu_busy_fraction", "d"), ("memory_available_bytes", "q"), ("power_watts", "d")),
        ),
        Layout(
            SOURCE_READS,
            "source reads",
            (
                ("request", "Q"),
                ("t_ns", "q"),
                ("source", "40s"),
                ("block_bytes", "q"),
                ("read_bytes", "q"),
                ("wait_ns", "q"),
                ("errno", "i"),
            ),
        ),
        Layout(
            ALLOCATIONS,
            "allocations",
            (
                ("request", "Q"),
                ("filesystem", "32s"),
                ("mkfs_options", "96s"),
                ("mount_options", "160s"),
                ("method", "24s"),
                ("size_bytes", "q"),
                ("repeat", "i"),
                ("position", "i"),
                ("allocate_ns", "q"),
                ("overhead_ns", "q"),
                ("sync_ns", "q"),
                ("errno", "i"),
                ("emulated", "b"),
                ("allocated_bytes", "q"),
                ("extents", "q"),
                ("discontinuities", "q"),
            ),
        ),
        # The end of what a request asked for. words is null where it was done, else why it was refused or failed.
        Layout(DONE, "done", (("request", "Q"), ("records", "q"), ("errno", "i"), ("words", "200s"))),
        # The agent ends of its own will; what it holds is gone.
        Layout(ENDED, "ended", (("made", "q"), ("acknowledged", "q"), ("dropped", "q"))),
        # The host is there, as of now; the agent answers with a HELLO and all that it holds.
        Layout(WELCOME, "welcome", (("nonce", "Q"),)),
        # All records below this number are stored.
        Layout(ACK, "ack", (("number", "q"),)),
        Layout(
            READ_SOURCES,
            "read sources",
            (("request", "Q"), ("source", "40s"), ("block_bytes", "q"), ("budget_ns", "q"), ("most_reads", "i")),
        ),
        # place: a folder that the agent's configuration names, or the file system to make on its scratch disk ("disk:ext4").
        Layout(
            ALLOCATE,
            "allocate",
            (("request", "Q"), ("place", "128s"), ("method", "24s"), ("size_bytes", "q"), ("repeats", "i"), ("position", "i")),
        ),
    )
}
