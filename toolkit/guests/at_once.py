"""Questions to many hosts or guests at the same time, from threads that hold nobody up: an interrupt ends them with the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["ASLEEP_S", "at_once"]

#: The kernel may give a Ctrl-C to any thread, and Python acts on it when the main thread next wakes: it never sleeps longer.
ASLEEP_S = 0.2

_T = TypeVar("_T")


def at_once(questions: Sequence[Callable[[], _T]], most: int = 8) -> Iterator[tuple[int, _T | BaseException]]:
    """Ask, so many at a time, and give each answer as it comes, with the place of its question.

    A pool of ``concurrent.futures`` would be waited for when the process ends, however long a host is silent; these are not.

    Parameters
    ----------
    questions : sequence of callable
        Each bounds its own time.
    most : int
        At the same time.

    Yields
    ------
    tuple of (int, answer)
        The answer, or the error that the question raised.

    Examples
    --------
    >>> sorted(at_once([lambda: "a", lambda: "b"]))
    [(0, 'a'), (1, 'b')]
    """
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    came: queue.SimpleQueue[tuple[int, _T | BaseException]] = queue.SimpleQueue()
    ended = threading.Event()
    for place in range(len(questions)):
        left.put(place)

    def ask() -> None:
        while not ended.is_set():
            try:
                place = left.get_nowait()
            except queue.Empty:
                return
            try:
                came.put((place, questions[place]()))
            except BaseException as error:  # noqa: BLE001 - given to who asked
                came.put((place, error))

    for number in range(min(most, len(questions))):
        threading.Thread(target=ask, name=f"toolkit asking {number}", daemon=True).start()
    try:
        for _ in questions:
            yield _next(came)
    finally:
        ended.set()  # what was not asked yet is not asked any more


def _next(came: queue.SimpleQueue[tuple[int, _T | BaseException]]) -> tuple[int, _T | BaseException]:
    while True:
        try:
            return came.get(timeout=ASLEEP_S)
        except queue.Empty:
            continue
