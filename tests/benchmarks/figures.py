"""A figure and how it is taken: ours and the peer in turn, A B, B A, A B, …, so that a drift of the machine meets both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

__all__ = ["ROUNDS", "Figure", "against", "compared", "in_turn", "seconds", "within"]

Given = TypeVar("Given")

#: The least number of rounds that a median here is of.
ROUNDS = 7


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    ``ours`` and ``peer`` are medians in ``unit``; ``result`` is the median of ours/peer (or of ours−peer, in ``unit``, where
    ``by`` says difference) round by round, ``low`` and ``high`` the least and the greatest of them; ``fastest`` is the same of
    the least of ours and the least of the peer's, which is what is left where the machine slows now the one and now the other;
    ``goal`` is what the result should not exceed (None: only stated).
    """

    what: str
    peer_name: str
    unit: str
    ours: float
    peer: float
    by: str
    result: float
    low: float
    high: float
    fastest: float
    rounds: int
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.result <= self.goal

    def record(self) -> dict[str, object]:
        """The figure for bench.json."""
        return {**asdict(self), "met": self.met}


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes, once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(works: Sequence[Callable[[], Given]], rounds: int = ROUNDS) -> list[tuple[Given, ...]]:
    """What each gives, round by round, each round in the other order than the one before; a first round does not count."""
    found = []
    for number in range(rounds + 1):
        places = list(range(len(works)))
        given = {place: works[place]() for place in (places if number % 2 else places[::-1])}
        found.append(tuple(given[place] for place in places))
    return found[1:]


def compared(
    what: str,
    peer_name: str,
    pairs: Iterable[tuple[float, float]],
    unit: str = "s",
    *,
    goal: float | None = None,
    by: str = "ratio",
) -> Figure:
    """A figure of what ours and the peer gave, round by round."""
    pairs = list(pairs)

    def result(mine: float, theirs: float) -> float:
        return mine / theirs if by == "ratio" else mine - theirs

    results = [result(mine, theirs) for mine, theirs in pairs]
    columns = list(zip(*pairs, strict=True))
    mine, theirs = map(statistics.median, columns)
    fastest = result(*map(min, columns))
    middle = statistics.median(results)
    return Figure(what, peer_name, unit, mine, theirs, by, middle, min(results), max(results), fastest, len(pairs), goal)


def against(
    what: str,
    ours: Callable[[], object],
    peer_name: str,
    peer: Callable[[], object],
    *,
    rounds: int = ROUNDS,
    goal: float | None = None,
) -> Figure:
    """Time ours against a peer."""
    pairs = in_turn([lambda: seconds(ours), lambda: seconds(peer)], rounds)
    return compared(what, peer_name, pairs, goal=goal)


def within(what: str, values: Iterable[float], limit: float, unit: str = "s") -> Figure:
    """What was measured against a limit."""
    return compared(what, f"limit {limit:g} {unit}", [(value, limit) for value in values], unit, goal=1.0)
