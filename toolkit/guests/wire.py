"""Frames between a guest's agent and the host, over a port that loses, doubles and cuts bytes whenever one side comes or goes.

A frame is a header and a payload of fixed-size records, whose kinds are in :mod:`toolkit.guests.layouts` and are offered here too.
What a frame means, and who answers which, is said in :mod:`toolkit.guests.agent` and :mod:`toolkit.guests.receiver`.

The header has a checksum of its own, so that its length can be believed before the payload is there, and holds that of the payload.
Numbers are little-endian. This file also travels into guests: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.guests.layouts import (
    ACK,
    ALLOCATE,
    ALLOCATIONS,
    DONE,
    ENDED,
    HELLO,
    LAYOUTS,
    NULL,
    NUMBERED,
    READ_SOURCES,
    SAMPLES,
    SOURCE_READS,
    STATE,
    SYSTEM,
    UNKNOWN_TIME,
    WELCOME,
    Layout,
)

__all__ = [
    "ACK",
    "ALLOCATE",
    "ALLOCATIONS",
    "DISK",
    "DONE",
    "ENDED",
    "HEADER_BYTES",
    "HELLO",
    "LAYOUTS",
    "MOST_PAYLOAD_BYTES",
    "NO_NUMBER",
    "NULL",
    "NUMBERED",
    "PORT_NAME",
    "READ_SOURCES",
    "SAMPLES",
    "SOURCE_READS",
    "STATE",
    "SYSTEM",
    "UNKNOWN_TIME",
    "VERSION",
    "WELCOME",
    "Decoder",
    "Frame",
    "Layout",
    "encode",
]

#: The virtio-serial port's name: in the guest it is ``/dev/virtio-ports/`` and this.
PORT_NAME = "org.virt_toolkit.agent.0"

#: How a place to allocate files says that it is a file system made on the scratch disk.
DISK = "disk:"

VERSION = 1
_MAGIC = b"\x89VtK"

#: ``first`` of a frame whose records are not numbered.
NO_NUMBER = -1

#: A payload is never longer; whoever says so is not believed.
MOST_PAYLOAD_BYTES = 64 * 1024

# magic, version, kind, zero, session, sequence, first, oldest, count, length, checksum of the payload
_HEADER = struct.Struct("<4sBBHQQqqIII")
_CHECKSUM = struct.Struct("<I")
#: Bytes of a header, its own checksum among them.
HEADER_BYTES = _HEADER.size + _CHECKSUM.size

_SIZES = {kind: layout.struct.size for kind, layout in LAYOUTS.items()}


class Frame(NamedTuple):
    """A frame as it came.

    Attributes
    ----------
    kind : int
        One of :data:`LAYOUTS`.
    session : int
        Of 64 bits, chosen by chance by each agent as it starts; a host's frames carry that which they are for, 0 where any.
    sequence : int
        Which frame of that sender since it said hello, or welcome.
    first : int
        The number of its first record, for :data:`NUMBERED` kinds.
    oldest : int
        The lowest number that the agent still holds: what is missing below it was dropped there.
    records : int
        How many.
    payload : bytes
        The records.
    """

    kind: int
    session: int
    sequence: int
    first: int
    oldest: int
    records: int
    payload: bytes


def encode(
    kind: int, payload: bytes, *, session: int = 0, sequence: int = 0, first: int = NO_NUMBER, oldest: int = NO_NUMBER
) -> bytes:
    """A frame of whole records.

    Parameters
    ----------
    kind : int
        One of :data:`LAYOUTS`.
    payload : bytes
        Records of that kind, one behind the other.
    session, sequence, first, oldest : int
        As of :class:`Frame`.

    Raises
    ------
    ValueError
        If the payload is not made of whole records, or is too long.

    Examples
    --------
    >>> sent = encode(ACK, LAYOUTS[ACK].pack(number=5), session=1)
    >>> frame, = Decoder().feed(sent)
    >>> frame.records, next(LAYOUTS[ACK].unpack(frame.payload))
    (1, {'number': 5})
    """
    records, rest = divmod(len(payload), _SIZES[kind])
    if rest or len(payload) > MOST_PAYLOAD_BYTES:
        raise ValueError(f"{len(payload)} bytes are no payload of {LAYOUTS[kind].name}")
    checksum = zlib.crc32(payload)
    header = _HEADER.pack(_MAGIC, VERSION, kind, 0, session, sequence, first, oldest, records, len(payload), checksum)
    return header + _CHECKSUM.pack(zlib.crc32(header)) + payload


class Decoder:
    """Finds the frames in what comes, whatever comes: it raises nothing, and holds no more than one frame's bytes.

    Attributes
    ----------
    corrupt_frames : int
        Stretches of bytes so far that were no frame, and lay between two frames or where one was expected.
    other_version : int or None
        The version of a peer that speaks another one, once it was heard.

    Examples
    --------
    >>> decoder = Decoder()
    >>> [len(decoder.feed(part)) for part in (b"noise", encode(ACK, LAYOUTS[ACK].pack(number=5)))], decoder.corrupt_frames
    ([0, 1], 1)
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._in_garbage = False
        # Behind a frame that is not whole yet: how far was looked for another, and what headers there were, by their places.
        self._searched = 0
        self._inside: list[tuple[int, Sequence[Any]]] = []
        self.corrupt_frames = 0
        self.other_version: int | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take bytes; gives the frames that are whole now."""
        held = self._held
        held += data
        found: list[Frame] = []
        at = 0
        while True:
            start = held.find(_MAGIC, at)
            if start != at and len(held) - at >= len(_MAGIC):
                self._garbage()
            if start < 0:
                at = max(at, len(held) - len(_MAGIC) + 1)  # the beginning of a magic may be among the last
                break
            at = start
            header = self._header(at)
            if header is None:
                if len(held) - at < HEADER_BYTES:
                    break
                self._garbage()
                at += 1
                continue
            frame = self._frame(at, header)
            if frame is not None:
                found.append(frame)
                at += HEADER_BYTES + len(frame.payload)
                self._in_garbage = False
                self._forget_inside()
                continue
            if self._has_come(at, header):
                self._garbage()
                at += HEADER_BYTES  # which was one: no other begins in it
                continue
            # One that was cut off would wait for bytes that are those of its successors: a whole frame among them says so.
            inside = self._whole_inside(at)
            if inside is None:
                break
            self._garbage()
            at = inside
        del held[:at]
        self._searched = max(0, self._searched - at)
        self._inside = [(place - at, header) for place, header in self._inside]
        return found

    def _garbage(self) -> None:
        self.corrupt_frames += not self._in_garbage
        self._in_garbage = True
        self._forget_inside()

    def _forget_inside(self) -> None:
        self._searched = 0
        self._inside.clear()

    def _header(self, at: int) -> Sequence[Any] | None:
        """The fields of a header that can be believed."""
        if len(self._held) - at < HEADER_BYTES:
            return None
        with memoryview(self._held)[at : at + HEADER_BYTES] as view:
            if _CHECKSUM.unpack_from(view, _HEADER.size)[0] != zlib.crc32(view[: _HEADER.size]):
                return None
            header = _HEADER.unpack_from(view)
        _, version, kind, zero, _, _, first, _, count, length, _ = header
        if version != VERSION:
            self.other_version = version
            return None
        numbered = kind in NUMBERED and first >= 0
        if zero or length > MOST_PAYLOAD_BYTES or count * _SIZES.get(kind, 0) != length or not length:
            return None
        return header if numbered or (kind not in NUMBERED and first == NO_NUMBER) else None

    def _has_come(self, at: int, header: Sequence[Any]) -> bool:
        return len(self._held) >= at + HEADER_BYTES + int(header[-2])

    def _frame(self, at: int, header: Sequence[Any]) -> Frame | None:
        _, _, kind, _, session, sequence, first, oldest, count, length, checksum = header
        begin = at + HEADER_BYTES
        if not self._has_come(at, header):
            return None
        with memoryview(self._held)[begin : begin + length] as view:
            if zlib.crc32(view) != checksum:
                return None
            return Frame(kind, session, sequence, first, oldest, count, bytes(view))

    def _whole_inside(self, at: int) -> int | None:
        """Where a whole frame begins behind this place, if there is one.

        What was looked at once is not looked at again, however few bytes come at a time: headers whose payload is not there yet
        are remembered.
        """
        for place, header in self._inside:
            if self._frame(place, header) is not None:
                return place
        self._inside = [one for one in self._inside if not self._has_come(*one)]
        place = max(at + HEADER_BYTES, self._searched)
        while True:
            found = self._held.find(_MAGIC, place)
            if found < 0:
                self._searched = max(place, len(self._held) - len(_MAGIC) + 1)
                return None
            place = found
            if len(self._held) - place < HEADER_BYTES:
                self._searched = place
                return None
            believed = self._header(place)
            if believed is not None:
                if self._frame(place, believed) is not None:
                    return place
                if not self._has_come(place, believed):
                    self._inside.append((place, believed))
            place += 1
