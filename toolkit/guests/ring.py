"""What an agent has measured and its host has not yet stored: numbered, in order, and bounded in memory.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from toolkit.guests.wire import LAYOUTS, MOST_PAYLOAD_BYTES

__all__ = ["Batch", "Ring"]

# What Python itself keeps for a batch: the tuple, the bytes object, two numbers and a place in the deque.
_OVERHEAD_BYTES = 256


class Batch(NamedTuple):
    """Records of one kind, the first of them of this number."""

    kind: int
    first: int
    records: int
    payload: bytes


class Ring:
    """Records that are kept until they are acknowledged; where there are too many, the oldest are dropped, and counted.

    Parameters
    ----------
    most_bytes : int
        Memory that it may take.

    Attributes
    ----------
    made : int
        Records so far that were put into it, and the number of the next.
    acknowledged : int
        Records below this number are stored, as the host says, or were dropped before.
    dropped : int
        Records so far that were dropped without the host's having said that it has them.

    Examples
    --------
    >>> from toolkit.guests.wire import DONE, LAYOUTS
    >>> ring = Ring(1000)
    >>> for request in range(3):
    ...     ring.put(DONE, LAYOUTS[DONE].pack(request=request, records=0, errno=None, words=None))
    >>> ring.made, ring.dropped, ring.held, ring.oldest, ring.next().first
    (3, 1, 2, 1, 1)
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._sent = 0  # of the batches, from the left
        self.made = self.acknowledged = self.dropped = 0

    @property
    def oldest(self) -> int:
        """The lowest number that it holds, that of the next record where it holds none."""
        return self._batches[0].first if self._batches else self.made

    @property
    def held(self) -> int:
        """Records that it holds and that are not acknowledged."""
        return self.made - max(self.oldest, self.acknowledged)

    def put(self, kind: int, payload: bytes) -> None:
        """Put whole records of one kind behind the others."""
        size = LAYOUTS[kind].struct.size
        step = MOST_PAYLOAD_BYTES // size * size
        for at in range(0, len(payload), step):
            batch = Batch(kind, self.made, len(payload[at : at + step]) // size, payload[at : at + step])
            self._batches.append(batch)
            self._bytes += len(batch.payload) + _OVERHEAD_BYTES
            self.made += batch.records
        while self._bytes > self._most_bytes and len(self._batches) > 1:
            batch = self._take()
            # Of a batch, the host may have acknowledged a part.
            self.dropped += batch.records - min(max(0, self.acknowledged - batch.first), batch.records)

    def next(self) -> Batch | None:
        """The next batch that is to be sent."""
        return self._batches[self._sent] if self._sent < len(self._batches) else None

    def sent(self) -> None:
        """The next batch was taken."""
        self._sent += 1

    def again(self) -> None:
        """Begin anew with the oldest: the host may have none of what was sent."""
        self._sent = 0

    def acknowledge(self, number: int) -> None:
        """All records below this number are stored. Nothing is believed that was never made."""
        number = min(number, self.made)
        while self._batches and self._batches[0].first + self._batches[0].records <= number:
            self._take()
        self.acknowledged = max(self.acknowledged, number)

    def _take(self) -> Batch:
        batch = self._batches.popleft()
        self._bytes -= len(batch.payload) + _OVERHEAD_BYTES
        self._sent = max(0, self._sent - 1)
        return batch
