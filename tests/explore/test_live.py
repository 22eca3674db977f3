"""Watching now: draws again by itself, stops when told, and forgets what left the window."""

from __future__ import annotations

import threading
import time

import pytest

from tests.plots import made
from toolkit.errors import UsageError
from toolkit.explore import Live


def shown(live: Live) -> str:
    return "\n".join(output["data"]["text/html"] for output in live.output.outputs)


def until(true: object, what: str) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} did not come about")


def test_it_draws_again_until_it_is_stopped() -> None:
    live = Live(interval_s=0.02, window_s=5.0, redraw_s=0.1)
    live.start.click()
    assert (live.start.disabled, live.stop.disabled) == (True, False)
    until(lambda: "data:image/png" in shown(live), "a first figure")
    first = shown(live)
    until(lambda: shown(live) != first, "a second figure")
    live.stop.click()
    live.end(wait_s=30)
    assert (live.start.disabled, live.stop.disabled) == (False, True)
    assert not [thread for thread in threading.enumerate() if thread.name == "toolkit-live"]


def test_starting_twice_watches_once() -> None:
    live = Live(interval_s=0.05, redraw_s=0.1)
    live.begin()
    live.begin()
    assert len([thread for thread in threading.enumerate() if thread.name == "toolkit-live"]) == 1
    live.end(wait_s=30)


def test_the_window_is_all_that_is_kept() -> None:
    live = Live(interval_s=0.1, window_s=10.0)
    looks = made.entropy_samples(count=100)
    for round_ in range(5):
        live.add(looks.assign(t_ns=looks["t_ns"] + round_ * 10_000_000_000))
    assert len(live.samples) == 101
    assert int(live.samples["t_ns"].max() - live.samples["t_ns"].min()) == 10_000_000_000


def test_a_window_that_would_not_fit_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="100,000"):
        Live(interval_s=0.001, window_s=3600.0)
    with pytest.raises(UsageError, match="above zero"):
        Live(interval_s=0.0)


def test_a_page_says_that_it_cannot_watch(displayed: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STATIC", "1")
    Live()._ipython_display_()
    assert "a page cannot watch" in str(displayed[0])
