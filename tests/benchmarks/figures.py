"""A figure and how it is taken: ours and the peer in turn, A B A B …, so that a drift of the machine meets both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

__all__ = ["Figure", "against", "within"]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    ``ours`` and ``peer`` are medians in ``unit``; ``ratio`` is the median of ours/peer pair by pair, ``low`` and ``high`` the least
    and the greatest of them; ``goal`` is what the ratio should not exceed (None: only stated).
    """

    what: str
    peer_name: str
    unit: str
    ours: float
    peer: float
    ratio: float
    low: float
    high: float
    rounds: int
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.ratio <= self.goal

    def record(self) -> dict[str, object]:
        """The figure for bench.json."""
        return {**asdict(self), "met": self.met}


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes, once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def against(
    what: str, ours: Callable[[], object], peer_name: str, peer: Callable[[], object], *, rounds: int = 7, goal: float | None = None
) -> Figure:
    """Time ours against a peer, interleaved, after one round that does not count."""
    seconds(ours), seconds(peer)
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    ratios = [mine / theirs for mine, theirs in pairs]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Figure(what, peer_name, "s", mine, theirs, statistics.median(ratios), min(ratios), max(ratios), rounds, goal)


def within(what: str, ours: Callable[[], object], limit_s: float, *, rounds: int = 7) -> Figure:
    """Time ours against a limit in seconds."""
    seconds(ours)
    taken = [seconds(ours) for _ in range(rounds)]
    ratios = [each / limit_s for each in taken]
    middle = statistics.median(taken)
    return Figure(what, f"limit {limit_s:g} s", "s", middle, limit_s, middle / limit_s, min(ratios), max(ratios), rounds, 1.0)
