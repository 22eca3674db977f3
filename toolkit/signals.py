"""What becomes of SIGINT, SIGTERM and SIGHUP while something must not be cut short, or could not be told of them.

Python's handlers answer these signals by an exception, in the midst of whatever runs. A removal must not be cut short by it. And C
code between the handler and us may drop it: numpy does when a dtype is compared, and Python itself when a generator is closed. The
program then goes on as if nobody had pressed Ctrl-C.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Signals", "held_back"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Stands before the handlers of SIGINT, SIGTERM and SIGHUP: passes signals on, or holds them back while something is removed.

    Where a signal would end the process at once it ends as an exception instead, so that there is a removal. Outside the main
    thread this does nothing: Python runs no handler there.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._holding = False
        self._held: list[tuple[int, Any]] = []

    def begin(self) -> None:
        """Stand before the handlers; a signal that is ignored stays so."""
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                # None: a handler that Python has not set, and could not put back.
                if handler not in (signal.SIG_IGN, None):
                    self._before[number] = handler
                    signal.signal(number, self._arrived)
        except BaseException:
            self.end(ending=True)
            raise

    def hold(self) -> None:
        """Hold back what comes from now on: a second Ctrl-C does not cut a removal short."""
        self._holding = True

    def resume(self) -> None:
        """Hold no longer; what was held back comes now."""
        self._holding = False
        if self._held:
            number, _ = self._held.pop(0)
            self._arrived(number, None)

    def end(self, ending: bool = False) -> None:
        """Put the handlers back. What was held back is answered now, unless an interruption is ending the work anyway."""
        try:
            while self._before:
                number, handler = next(iter(self._before.items()))
                if signal.getsignal(number) == self._arrived:
                    signal.signal(number, handler)
                del self._before[number]
        except BaseException:
            # A handler that is back has answered a signal already: the others must not stay behind us for that.
            self.end(ending=True)
            raise
        if self._held and not ending:
            number, handler = self._held.pop(0)
            if callable(handler):
                # Not sent again: an event loop has heard of it already, by its own way.
                handler(number, None)
            else:
                signal.raise_signal(number)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        handler = self._before.get(number)
        if self._holding:
            self._held.append((number, handler))
        elif callable(handler):
            handler(number, frame)
        else:
            # The default action would end the process without a removal; this is the status a shell would give for it.
            raise SystemExit(128 + number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let a signal wait that comes meanwhile, until nothing can drop the exception that answers it; for moments, not for waits.

    Also a function's decorator. Outside the main thread this does nothing.

    Examples
    --------
    >>> import signal
    >>> try:
    ...     with held_back():
    ...         signal.raise_signal(signal.SIGINT)
    ...         print("to the end")
    ... except KeyboardInterrupt:
    ...     print("and then interrupted")
    to the end
    and then interrupted
    """
    signals = Signals()
    signals.hold()
    try:
        signals.begin()
        yield
    finally:
        signals.end()
