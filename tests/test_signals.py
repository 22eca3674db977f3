"""A signal that comes where nothing could be told of it is held back, and answered once."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest

from toolkit import conform, signals, terminal
from toolkit.runs import Run, begin
from toolkit.signals import Signals, held_back

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    yield
    assert {number: signal.getsignal(number) for number in _NUMBERS} == before


class _Interrupted:
    """What numpy asks for its dtype when it compares, just as Ctrl-C is pressed."""

    @property
    def dtype(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_numpy_drops_an_interruption_and_what_is_held_back_is_not_dropped() -> None:
    """The premise first: if numpy learns to pass it on, this says so."""
    assert np.dtype("int64") != _Interrupted()
    with pytest.raises(KeyboardInterrupt), held_back():
        assert np.dtype("int64") != _Interrupted()


_ROW = {"filesystem": "ext4", "method": "fallocate", "size_bytes": 4096, "repeat": 0, "position": 0, "elapsed_ns": 1}


def _works(run: Run) -> dict[str, Callable[[], object]]:
    frame = run.frame("allocations", [_ROW])
    arrow = conform.to_arrow("allocations", frame)
    return {
        "frame": lambda: run.frame("allocations", [_ROW]),
        "to_arrow": lambda: conform.to_arrow("allocations", frame),
        "to_pandas": lambda: conform.to_pandas("allocations", arrow),
        "json": lambda: terminal._rows_of(frame),
    }


@pytest.mark.parametrize("name", ["frame", "to_arrow", "to_pandas", "json"])
def test_no_interruption_is_lost_while_a_frame_is_made_or_written(name: str) -> None:
    work = _works(begin("a test"))[name]
    work()  # what is made once is made now
    entered = _entered(work)
    # The first calls and the last are the wrapper's own, in which there is nothing to lose.
    for place in np.linspace(100, entered - 100, 12).astype(int):
        with pytest.raises(KeyboardInterrupt) as caught:
            _entered(work, strike=int(place))
        assert traceback.extract_tb(caught.tb)[-1].filename == signals.__file__, f"call {place} of {entered}"


def _entered(work: Callable[[], object], strike: int | None = None) -> int:
    """How many functions were entered; as one of them is, the signal comes."""
    count = 0

    def entered(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += 1
        if count == strike:
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_a_handler_is_called_once_and_an_event_loop_hears_once() -> None:
    heard: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.append, "loop")
        with held_back():
            signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(main())
    signal.signal(signal.SIGTERM, before)
    assert heard == ["loop"]
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append("handler"))
    with held_back():
        signal.raise_signal(signal.SIGTERM)
        assert heard == ["loop"]
    signal.signal(signal.SIGTERM, before)
    assert heard == ["loop", "handler"]


@pytest.mark.parametrize("struck", _NUMBERS)
def test_handlers_are_put_back_when_a_signal_comes_as_they_are(struck: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from the first handler that is back leaves none of the others behind."""
    one = Signals()
    one.hold()
    before = signal.signal(struck, signal.default_int_handler)
    one.begin()
    put_back: Callable[[int, Any], Any] = signal.signal

    def and_struck(number: int, handler: Any) -> Any:
        put_back(number, handler)
        if number == struck:
            signal.raise_signal(struck)

    monkeypatch.setattr(signal, "signal", and_struck)
    with pytest.raises(KeyboardInterrupt):
        one.end()
    monkeypatch.undo()
    assert one._arrived not in [signal.getsignal(number) for number in _NUMBERS]
    signal.signal(struck, before)


def test_outside_the_main_thread_nothing_is_held() -> None:
    found: list[object] = []

    def aside() -> None:
        with held_back():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=aside)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
