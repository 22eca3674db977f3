"""How long work says how far it is: a function that is called with what is done, what there is to do, and a few words.

Whoever shows it (a terminal's bar, a notebook) passes one in; whoever measures calls it between measurements, never inside one.
"""

from __future__ import annotations

from collections.abc import Callable

#: ``progress(done, total, words)``: ``done`` and ``total`` in the same unit, ``words`` what is being done now.
Progress = Callable[[float, float, str], None]


def silent(done: float, total: float, words: str) -> None:
    """Show nothing: the default where no one watches."""


def part(progress: Progress, begin: float, end: float, total: float) -> Progress:
    """The progress of one part of larger work: what it calls done moves the whole from ``begin`` to ``end`` of ``total``.

    Examples
    --------
    >>> whole = part(lambda done, total, words: print(done, total, words), 20.0, 40.0, 100.0)
    >>> whole(1, 4, "reading")
    25.0 100.0 reading
    """

    def within(done: float, all_of_it: float, words: str) -> None:
        share = min(1.0, done / all_of_it) if all_of_it > 0 else 1.0
        progress(begin + (end - begin) * share, total, words)

    return within
