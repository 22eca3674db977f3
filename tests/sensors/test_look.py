"""Looks at the pool, one by one and at the moments of a timer; and the timer."""

from __future__ import annotations

import errno
import os
import select
import signal
import time

import pytest

from toolkit.sensors.look import Look, Looked, RawLooks
from toolkit.sensors.ticks import Ticks

_MS = 1_000_000


def test_a_look_says_not_ready_while_getrandom_would_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def would_block(_size: int, _flags: int) -> bytes:
        raise BlockingIOError

    with monkeypatch.context() as before, Look() as look:
        before.setattr(os, "getrandom", would_block)
        assert look().crng_ready is False
        assert look().crng_ready is False
        before.undo()
        assert look().crng_ready is True


def test_a_look_does_not_ask_again_once_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    getrandom = os.getrandom
    monkeypatch.setattr(os, "getrandom", lambda size, flags: asked.append(size) or getrandom(size, flags))
    with Look() as look:
        assert [look().crng_ready for _ in range(3)] == [True] * 3
    assert len(asked) == 1


def test_a_look_without_getrandom_does_not_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_size: int, _flags: int) -> bytes:
        raise PermissionError

    monkeypatch.setattr(os, "getrandom", refused)
    with Look() as look:
        assert look().crng_ready is None


def test_looks_open_nothing_and_leave_nothing_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Look() as look:
        look()
        during = set(os.listdir("/proc/self/fd"))
        for _ in range(50):
            look()
        assert set(os.listdir("/proc/self/fd")) == during
    look.close()
    assert set(os.listdir("/proc/self/fd")) == before


def _series(look: Look, ticks: Ticks, looks: int) -> list[Looked]:
    made: list[RawLooks] = []
    while len(seen := [each for raw in made for each in Look.looked(raw)]) < looks:
        look.series(ticks, looks - len(seen), made)
    return seen


def test_a_series_sees_what_single_looks_see() -> None:
    with Look() as look, Ticks(_MS) as ticks:
        before_ns, before_utc_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        # The first is made before it is known that the CRNG is ready, the others after.
        made = [*_series(look, ticks, 1), *_series(look, ticks, 4)]
        sample = look()
    assert [(each.crng_ready, each.random_readable) for each in made] == [(sample.crng_ready, sample.random_readable)] * 5
    assert {each.entropy_avail_bits for each in made} == {sample.entropy_avail_bits}
    times = [each.t_ns for each in made]
    assert before_ns < times[0]
    assert times == sorted(set(times))
    assert abs(made[0].utc_ns - before_utc_ns - (made[0].t_ns - before_ns)) < 1000 * _MS
    assert all(each.moments >= 1 for each in made)


def test_what_a_series_cannot_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refused(path: str, *more: int) -> int:
        if path.endswith(("entropy_avail", "dev/random")):
            raise PermissionError(errno.EACCES, "refused", path)
        return opened(path, *more)

    monkeypatch.setattr(os, "open", refused)
    with Look() as look, Ticks(_MS) as ticks:
        for each in _series(look, ticks, 3):
            assert (each.entropy_avail_bits, each.crng_ready, each.random_readable) == (None, True, None)


def test_an_exception_leaves_the_looks_before_it() -> None:
    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    made: list[RawLooks] = []
    try:
        with Look() as look, Ticks(5 * _MS) as ticks:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(TimeoutError):
                look.series(ticks, 10_000, made)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    seen = [each for raw in made for each in Look.looked(raw)]
    assert 1 <= len(seen) <= 30
    assert all(each.moments >= 1 for each in seen)


def test_moments_that_passed_are_counted_and_come_once() -> None:
    with Ticks(2 * _MS) as ticks:
        assert ticks.wait() >= 1
        time.sleep(0.05)
        passed = ticks.wait()
        assert passed >= 24
        begun_ns = time.monotonic_ns()
        total = passed + 1 + sum(ticks.wait() for _ in range(5))
        # As many moments as there were, by another clock's reading, since the first.
        since = (time.monotonic_ns() - ticks.start_ns) / (2 * _MS)
        assert abs(total - since) <= 2 + (time.monotonic_ns() - begun_ns) / (2 * _MS)


def test_the_first_moment_is_at_once_however_far_the_next() -> None:
    with Ticks(3600 * 1000 * _MS) as ticks:
        begun = time.monotonic()
        assert ticks.wait() == 1
        assert time.monotonic() - begun < 60
        waiting = select.poll()
        waiting.register(ticks.fd, select.POLLIN)
        assert waiting.poll(100) == []


def test_a_timer_is_given_back_and_no_child_gets_it() -> None:
    before = set(os.listdir("/proc/self/fd"))
    ticks = Ticks(_MS)
    assert not os.get_inheritable(ticks.fd)
    ticks.close()
    ticks.close()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("interval_ns", [-1, -(10**9)])
def test_an_interval_that_the_kernel_refuses_is_its_error_and_leaves_nothing_open(interval_ns: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="timerfd_settime") as refused:
        Ticks(interval_ns)
    assert refused.value.errno == errno.EINVAL
    assert set(os.listdir("/proc/self/fd")) == before
