"""Frames: what was sent comes out, and nothing else does, whatever comes."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.guests import wire
from toolkit.guests.wire import HEADER_BYTES, LAYOUTS, MOST_PAYLOAD_BYTES, NUMBERED, Decoder, Frame, Layout, encode

_MAGIC = encode(wire.ACK, LAYOUTS[wire.ACK].pack(number=0))[:4]
# Where in a header they lie.
_VERSION_AT = 4
_CHECKSUM_BYTES = 4


def _decoded(data: bytes) -> list[Frame]:
    return Decoder().feed(data)


def _text_that_fits(code: str) -> st.SearchStrategy[str | None]:
    size = int(code[:-1])
    fits = st.text(max_size=size).filter(lambda text: len(text.encode("utf-8", "backslashreplace")) <= size)
    # What is behind zeros at the end cannot be told from them.
    return st.none() | fits.filter(lambda text: not text.endswith("\0")).map(
        lambda text: text.encode("utf-8", "backslashreplace").decode()
    )


def _values(name: str, code: str) -> st.SearchStrategy[Any]:
    if code[-1] == "s":
        return _text_that_fits(code)
    if code == "d":
        return st.none() | st.floats(allow_nan=False)
    bits = 8 * struct.calcsize("<" + code)
    if code.isupper():
        return st.integers(0, 2**bits - 1)
    null = wire.UNKNOWN_TIME if name == "utc_ns" else wire.NULL
    return st.none() | st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).filter(lambda value: value != null)


def _records(layout: Layout) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({name: _values(name, code) for name, code in layout.fields}), min_size=1, max_size=3)


@st.composite
def _frames(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(LAYOUTS)))
    size = LAYOUTS[kind].struct.size
    payload = draw(st.binary(min_size=size, max_size=size)) * draw(st.integers(1, 4))
    first = draw(st.integers(0, 2**62)) if kind in NUMBERED else wire.NO_NUMBER
    numbers = {name: draw(st.integers(0, 2**64 - 1)) for name in ("session", "sequence")}
    return encode(kind, payload, first=first, oldest=draw(st.integers(-1, 2**62)), **numbers)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_what_is_packed_is_unpacked_and_read_by_numpy_alike(layout: Layout, data: st.DataObject) -> None:
    records = data.draw(_records(layout))
    packed = b"".join(layout.pack(**record) for record in records)
    (frame,) = _decoded(encode(layout.kind, packed, first=7 if layout.kind in NUMBERED else wire.NO_NUMBER))
    assert (frame.kind, frame.records, frame.payload) == (layout.kind, len(records), packed)
    assert list(layout.unpack(frame.payload)) == records
    described: Any = layout.dtype()
    by_numpy = np.frombuffer(packed, np.dtype(described))
    assert by_numpy.dtype.itemsize == layout.struct.size
    for row, by_struct in zip(by_numpy, layout.struct.iter_unpack(packed), strict=True):
        for (name, code), value in zip(layout.fields, by_struct, strict=True):
            if code[-1] == "s":
                assert row[name] == value.rstrip(b"\0")
            else:
                assert row[name] == value or (math.isnan(row[name]) and math.isnan(value))


def test_a_text_that_is_too_long_is_cut_at_a_character() -> None:
    (record,) = LAYOUTS[wire.DONE].unpack(LAYOUTS[wire.DONE].pack(request=1, records=0, errno=None, words="é" * 99 + "x€€"))
    assert record["words"] == "é" * 99 + "x"


def test_text_that_is_no_utf_8_is_escaped() -> None:
    packed = LAYOUTS[wire.DONE].struct.pack(1, 0, 0, b"a\xffb\xc3")
    assert next(LAYOUTS[wire.DONE].unpack(packed))["words"] == "a\\xffb\\xc3"


@pytest.mark.parametrize("payload", [b"1234567", bytes(MOST_PAYLOAD_BYTES + 8)])
def test_what_is_not_whole_records_or_too_long_is_not_encoded(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no payload of ack"):
        encode(wire.ACK, payload)


@settings(deadline=None, max_examples=60)
@given(frames=st.lists(_frames(), max_size=6), cuts=st.lists(st.integers(0, 3000), max_size=40))
def test_however_a_stream_is_cut_the_frames_are_the_same(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)
    whole = [frame for part in frames for frame in _decoded(part)]
    assert len(whole) == len(frames)
    assert _decoded(stream) == whole
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = Decoder()
    assert [frame for a, b in itertools.pairwise(places) for frame in decoder.feed(stream[a:b])] == whole
    assert decoder.corrupt_frames == 0
    decoder = Decoder()
    assert [frame for byte in stream[:2000] for frame in decoder.feed(bytes([byte]))] == _decoded(stream[:2000])


@st.composite
def _damaged(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """What was sent, what came of it in parts, and those frames that came whole."""
    parts: list[bytes] = []
    whole: list[bytes] = []
    sent = draw(st.lists(_frames(), min_size=1, max_size=8))
    for frame in sent:
        damage = draw(st.sampled_from(("none", "none", "twice", "cut", "head lost", "bit", "middle lost", "garbage", "magic")))
        at = draw(st.integers(1, len(frame) - 1))
        if damage in ("none", "twice"):
            copies = [frame] * (2 if damage == "twice" else 1)
            whole += copies
            parts += copies
        elif damage == "bit":
            parts.append(frame[:at] + bytes([frame[at] ^ 1 << draw(st.integers(0, 7))]) + frame[at + 1 :])
        elif damage == "middle lost":
            end = draw(st.integers(at + 1, len(frame)))
            parts.append(frame[:at] + frame[end:])
        else:
            garbage = draw(st.binary(max_size=200))
            parts.append({"cut": frame[:at], "head lost": frame[at:], "magic": _MAGIC[: at % 5]}.get(damage, garbage))
    return sent, parts, whole


@settings(deadline=None, max_examples=200)
@given(damaged=_damaged(), size=st.integers(1, 4000))
def test_of_a_damaged_stream_the_whole_frames_come_out_and_nothing_else(damaged: tuple[list[bytes], ...], size: int) -> None:
    sent, parts, whole = damaged
    stream = b"".join(parts)
    decoder = Decoder()
    found = []
    for at in range(0, len(stream), size):
        found += decoder.feed(stream[at : at + size])
        assert len(decoder._held) < HEADER_BYTES + MOST_PAYLOAD_BYTES
    # A frame that was cut may be made whole by chance, by what comes behind it; by nothing can it become another one.
    known = [each for part in sent for each in _decoded(part)]
    assert all(frame in known for frame in found)
    rest = iter(found)
    assert all(frame in rest for part in whole for frame in _decoded(part))
    if whole == parts:
        assert decoder.corrupt_frames == 0
    assert decoder.corrupt_frames <= len(parts)


@settings(deadline=None, max_examples=100)
@given(garbage=st.lists(st.binary(max_size=300) | st.just(_MAGIC) | st.just(_MAGIC + b"\1"), max_size=20), frame=_frames())
def test_behind_garbage_a_frame_is_found(garbage: list[bytes], frame: bytes) -> None:
    decoder = Decoder()
    for part in garbage:
        assert decoder.feed(part) == []
        assert len(decoder._held) < HEADER_BYTES
    assert decoder.feed(frame) == _decoded(frame)
    assert decoder.corrupt_frames == (1 if b"".join(garbage) else 0)


def _header(kind: int = wire.ACK, **changed: int) -> bytes:
    """A header whose checksum is right, with fields that need not be."""
    fields = {
        "version": wire.VERSION, "kind": kind, "zero": 0, "session": 0, "sequence": 0, "first": -1, "oldest": -1,
        "count": 1, "length": 8, "checksum": zlib.crc32(bytes(8)), **changed,
    }  # fmt: skip
    header = struct.pack("<4sBBHQQqqIII", _MAGIC, *fields.values())
    assert len(header) + _CHECKSUM_BYTES == HEADER_BYTES
    return header + struct.pack("<I", zlib.crc32(header))


def test_a_header_made_by_hand_is_one() -> None:
    assert len(_decoded(_header() + bytes(8))) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": 0}, {"kind": 200}, {"zero": 1}, {"first": 0}, {"first": -2}, {"count": 2}, {"count": 0}, {"length": 0, "count": 0},
        {"length": MOST_PAYLOAD_BYTES + 8, "count": MOST_PAYLOAD_BYTES // 8 + 1}, {"length": 2**32 - 1}, {"count": 2**32 - 1},
        {"kind": wire.SAMPLES, "first": -1, "length": LAYOUTS[wire.SAMPLES].struct.size},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_that_cannot_be_is_not_waited_for(changed: dict[str, int]) -> None:
    decoder = Decoder()
    good = encode(wire.ACK, bytes(8))
    assert decoder.feed(_header(**changed)) == []
    assert decoder.feed(good) == _decoded(good)
    assert decoder.other_version is None


def test_a_peer_of_another_version_is_told_and_not_understood() -> None:
    decoder = Decoder()
    assert decoder.feed(_header(version=wire.VERSION + 1) + bytes(8)) == []
    assert decoder.other_version == wire.VERSION + 1
    # One bit that flipped on the way is no other version.
    sent = bytearray(encode(wire.ACK, bytes(8)))
    sent[_VERSION_AT] ^= 2
    decoder = Decoder()
    assert decoder.feed(sent) == []
    assert decoder.other_version is None


@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 1, 30_000])
def test_a_frame_that_was_cut_off_does_not_stall_those_behind_it(at: int) -> None:
    long = encode(wire.ACK, bytes(MOST_PAYLOAD_BYTES))
    shorts = [encode(wire.ACK, LAYOUTS[wire.ACK].pack(number=number)) for number in range(5)]
    decoder = Decoder()
    assert decoder.feed(long[:at]) == []
    assert [decoder.feed(short) for short in shorts] == [_decoded(short) for short in shorts]
    assert decoder.corrupt_frames == 1


def test_one_cut_off_among_the_bytes_of_another_does_not_stall_either() -> None:
    long = encode(wire.ACK, bytes(MOST_PAYLOAD_BYTES))
    short = encode(wire.ACK, bytes(8))
    decoder = Decoder()
    stream = long[:100] + long[:200] + short[:-1]
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == []
    assert decoder.feed(short[-1:]) == _decoded(short)


def test_a_peer_that_sends_headers_byte_by_byte_costs_a_bounded_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def counted(data: memoryview) -> int:
        looked_at.append(len(data))
        return zlib.crc32(data)

    class Counting:
        crc32 = staticmethod(counted)

    longest = {"count": MOST_PAYLOAD_BYTES // 8, "length": MOST_PAYLOAD_BYTES}
    flood = _header(**longest) * 20 + _MAGIC * 5000
    monkeypatch.setattr(wire, "zlib", Counting)
    decoder = Decoder()
    decoder.feed(flood)
    for _ in range(1000):
        assert decoder.feed(b"x") == []
    # Each place that may be a header is looked at once or twice, not once a byte.
    assert len(looked_at) <= 3 * flood.count(_MAGIC)
