"""The agent's memory: in order, bounded, and every record accounted for once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.guests import wire
from toolkit.guests.ring import Ring
from toolkit.guests.wire import LAYOUTS, MOST_PAYLOAD_BYTES

_SIZE = LAYOUTS[wire.SYSTEM].struct.size


def _records(first: int, count: int) -> bytes:
    pack = LAYOUTS[wire.SYSTEM].pack
    return b"".join(
        pack(t_ns=number, utc_ns=None, cpu_busy_fraction=None, memory_available_bytes=None, power_watts=None)
        for number in range(first, first + count)
    )


def _numbers(payload: bytes) -> list[int]:
    return [record["t_ns"] for record in LAYOUTS[wire.SYSTEM].unpack(payload)]


_STEPS = st.lists(
    st.tuples(st.just("put"), st.integers(1, 40))
    | st.tuples(st.just("send"), st.integers(1, 5))
    | st.tuples(st.just("acknowledge"), st.integers(-5, 600))
    | st.tuples(st.just("again"), st.just(0)),
    max_size=60,
)


@settings(deadline=None, max_examples=200)
@given(steps=_STEPS, most_bytes=st.integers(1, 20_000))
def test_what_is_made_is_held_or_acknowledged_or_counted_as_dropped(steps: list[tuple[str, int]], most_bytes: int) -> None:
    ring = Ring(most_bytes)
    stored = acknowledged = 0  # counted here, and where the host says that all is stored
    for what, count in steps:
        oldest, known = ring.oldest, acknowledged
        if what == "put":
            ring.put(wire.SYSTEM, _records(ring.made, count))
        elif what == "acknowledge":
            acknowledged = max(acknowledged, min(count, ring.made))
            ring.acknowledge(count)
            # Of what was dropped before, an acknowledgement says nothing: it was skipped.
            stored += max(0, acknowledged - max(known, oldest))
        elif what == "again":
            ring.again()
        else:
            for _ in range(count):
                batch = ring.next()
                if batch is None:
                    break
                assert _numbers(batch.payload) == list(range(batch.first, batch.first + batch.records))
                ring.sent()
        assert ring.acknowledged == acknowledged
        assert ring.made == stored + ring.dropped + ring.held
        assert ring.oldest <= ring.made
    held = []
    ring.again()
    while (batch := ring.next()) is not None:
        held += _numbers(batch.payload)
        ring.sent()
    assert held == list(range(ring.oldest, ring.made))


@given(puts=st.lists(st.integers(1, 30), max_size=50))
def test_it_takes_no_more_memory_than_it_may(puts: list[int]) -> None:
    most_bytes = 8000
    ring = Ring(most_bytes)
    for count in puts:
        ring.put(wire.SYSTEM, _records(ring.made, count))
        # The newest is kept, however big: it has to be sent for the host to learn anything.
        assert ring.held * _SIZE <= max(most_bytes, count * _SIZE)


def test_the_oldest_are_dropped_also_while_they_are_being_sent() -> None:
    ring = Ring(3 * (_SIZE + 256))
    for number in range(3):
        ring.put(wire.SYSTEM, _records(number, 1))
    for number in range(2):
        assert _numbers(ring.next().payload) == [number]
        ring.sent()
    ring.put(wire.SYSTEM, _records(3, 1))
    assert (ring.dropped, ring.oldest) == (1, 1)
    assert _numbers(ring.next().payload) == [2]


def test_what_is_longer_than_a_frame_becomes_several() -> None:
    ring = Ring(10**7)
    count = 2 * MOST_PAYLOAD_BYTES // _SIZE
    ring.put(wire.SYSTEM, _records(0, count))
    found = []
    while (batch := ring.next()) is not None:
        assert len(batch.payload) <= MOST_PAYLOAD_BYTES
        found += _numbers(batch.payload)
        ring.sent()
    assert found == list(range(count))


def test_a_host_that_acknowledges_what_was_never_made_is_not_believed() -> None:
    ring = Ring(10**6)
    ring.put(wire.SYSTEM, _records(0, 5))
    ring.acknowledge(2**60)
    assert (ring.acknowledged, ring.held, ring.dropped) == (5, 0, 0)
    ring.put(wire.SYSTEM, _records(5, 1))
    assert ring.next().first == 5
    ring.acknowledge(-(2**60))
    assert (ring.acknowledged, ring.held) == (5, 1)


def test_again_begins_with_the_oldest_that_is_not_acknowledged() -> None:
    ring = Ring(10**6)
    for number in range(4):
        ring.put(wire.SYSTEM, _records(number, 1))
        ring.sent()
    ring.acknowledge(2)
    assert ring.next() is None
    ring.again()
    assert ring.next().first == 2
