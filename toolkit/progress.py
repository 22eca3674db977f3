"""How long work says how far it is: a function that is called with what is done, what there is to do, and a few words.

Whoever shows it (a terminal's bar, a notebook) passes one in; whoever measures calls it between measurements, never inside one.
"""

from __future__ import annotations

from collections.abc import Callable

#: ``progress(done, total, words)``: ``done`` and ``total`` in the same unit, ``words`` what is being done now.
Progress = Callable[[float, float, str], None]


def silent(done: float, total: float, words: str) -> None:
    """Show nothing: the default where no one watches."""
