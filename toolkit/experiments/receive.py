"""Receiving from guests for as long as somebody wants to: until a time is up, or a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from toolkit.guests.receiver import Receiver, Status

__all__ = ["receive"]

_Answer = TypeVar("_Answer")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def receive(
    receiver: Receiver,
    duration_s: float | None = None,
    told: Callable[[list[Status]], None] | None = None,
    until: Callable[[], Awaitable[_Answer]] | None = None,
) -> _Answer | None:
    """Receive from guests; what has come by the end is in the store.

    Parameters
    ----------
    receiver : Receiver
        With the guests added.
    duration_s : float, optional
        How long at most; without it, until Ctrl-C or SIGTERM, which end it in any case, and are no error.
    told : callable, optional
        Called about every second with how each channel is.
    until : callable, optional
        Makes an awaitable whose end ends it too.

    Returns
    -------
    object
        What ``until`` gave; None where something else ended it.

    Raises
    ------
    StoreError
        If the store cannot be appended to.
    """
    return asyncio.run(_receive(receiver, duration_s, told, until))


async def _receive(
    receiver: Receiver,
    duration_s: float | None,
    told: Callable[[list[Status]], None] | None,
    until: Callable[[], Awaitable[_Answer]] | None,
) -> _Answer | None:
    stopped = asyncio.Event()
    answers: list[_Answer] = []

    async def ending() -> None:
        waited: list[asyncio.Future[Any]] = [asyncio.ensure_future(stopped.wait())]
        if until is not None:
            waited.append(asyncio.ensure_future(until()))
        try:
            await asyncio.wait(waited, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            answers.extend(future.result() for future in waited[1:] if future.done())
        finally:
            for future in waited:
                future.cancel()

    with _signals_set(stopped):
        await receiver.run(ending(), told)
    return answers[0] if answers else None


@contextlib.contextmanager
def _signals_set(stopped: asyncio.Event) -> Iterator[None]:
    """Let the signals that end a program end this alone; one that our parent had ignored (nohup) stays ignored."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
