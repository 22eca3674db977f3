"""One allocation experiment at a time on a machine: with real processes, and others that are not honest.

Each test has names of its own for the marks, so that nobody else's experiment on this machine plays a part.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from tests.needs import require_root
from toolkit import turns
from toolkit.errors import BusyWarning, UnavailableError, UsageError
from toolkit.turns import Neighbour, turn

# Holds a turn, told what to do if busy, until its standard input ends; tells its neighbours then. A third argument is a user.
_HOLDER = """
import os, sys, warnings
from toolkit import turns
turns._ALONE, turns._BESIDE = sys.argv[1].encode(), tuple(sys.argv[1].encode() + b"-%d" % number for number in range(7))
turns._ALONE, turns._BESIDE = b"\\0" + turns._ALONE, tuple(b"\\0" + name for name in turns._BESIDE)
if len(sys.argv) > 3:
    os.setresuid(*[int(sys.argv[3])] * 3)
with turns.turn(sys.argv[2]) as mine:
    print(*(each.pid for each in mine.neighbours()), "begun", flush=True)
    sys.stdin.read()
    print(*(each.pid for each in mine.neighbours()), "ended", flush=True)
"""


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    made = f"virt-toolkit-test-{secrets.token_hex(8)}"
    monkeypatch.setattr(turns, "_ALONE", f"\0{made}")
    monkeypatch.setattr(turns, "_BESIDE", tuple(f"\0{made}-{number}" for number in range(7)))
    return made


@contextlib.contextmanager
def _holder(name: str, if_busy: str = "wait", *user: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "always", "-c", _HOLDER, name, if_busy, *user]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(stream: object) -> str:
    return stream.readline().strip()  # type: ignore[attr-defined, no-any-return]


def _end(process: subprocess.Popen[str]) -> str:
    process.stdin.close()
    return _said(process.stdout)


def test_the_second_says_who_measures_and_begins_when_that_one_ends(name: str) -> None:
    with contextlib.ExitStack() as both:
        first = both.enter_context(_holder(name))
        assert _said(first.stdout) == "begun"
        second = both.enter_context(_holder(name))
        said = _said(second.stderr)
        assert f"Another allocation experiment (process {first.pid}) is measuring on this machine" in said
        assert "this one waits until it ends (to measure beside it: --if-busy go-on, or if_busy='go-on')" in said
        assert second.poll() is None
        assert _end(first) == "ended"
        assert _said(second.stdout) == "begun"
        assert _end(second) == "ended"


def test_a_turn_ends_with_its_process_however_that_ends(name: str) -> None:
    with _holder(name) as first:
        assert _said(first.stdout) == "begun"
        first.send_signal(signal.SIGKILL)
    with turn() as mine:
        assert mine.neighbours() == []


def test_whoever_goes_on_says_so_and_the_first_is_told(name: str) -> None:
    with _holder(name) as first:
        assert _said(first.stdout) == "begun"
        with (
            pytest.warns(BusyWarning, match=rf"process {first.pid}\) .* this one goes on beside it, as told"),
            turn("go-on") as mine,
        ):
            assert mine.neighbours() == [Neighbour(first.pid, os.geteuid())]
        # Over before the first one ends, and still its figures were disturbed.
        assert _end(first) == f"{os.getpid()} ended"


def test_a_third_waits_for_the_second_that_went_on_and_is_not_told_of_it(name: str) -> None:
    with _holder(name) as first:
        _said(first.stdout)
        with _holder(name, "go-on") as second:
            assert _said(second.stdout) == f"{first.pid} begun"
            assert _end(first) == f"{second.pid} ended"
            with _holder(name) as third:
                assert f"(process {second.pid})" in _said(third.stderr)
                # Beside the second, and seen by the third, which only waits.
                with pytest.warns(BusyWarning), turn("go-on") as mine:
                    assert {each.pid for each in mine.neighbours()} == {second.pid, third.pid}
                assert third.poll() is None
                assert _end(second) == f"{first.pid} {os.getpid()} ended"
                assert _said(third.stdout) == "begun"
                assert _end(third) == "ended"


def test_to_go_on_alone_is_nothing_special(name: str) -> None:
    with turn("go-on") as mine:
        assert mine.neighbours() == []


def test_an_interrupt_ends_the_wait(name: str) -> None:
    with _holder(name) as first:
        _said(first.stdout)
        with _holder(name) as second:
            _said(second.stderr)
            second.send_signal(signal.SIGINT)
            assert second.wait() == -signal.SIGINT
            assert "KeyboardInterrupt" in second.stderr.read()
        assert _end(first) == "ended"


def test_progress_is_told_of_the_wait_before_it_begins(name: str) -> None:
    with _holder(name) as first:
        _said(first.stdout)
        told: list[str] = []

        def progress(done: float, total: float, words: str) -> None:
            told.append(words)
            first.stdin.close()

        with pytest.warns(BusyWarning), turn("wait", progress):
            assert told == [f"waiting until the allocation experiment of process {first.pid} ends"]


def test_a_program_does_not_wait_for_itself_but_for_its_other_threads(name: str) -> None:
    with turn():
        with pytest.raises(UsageError, match="would wait for itself"), turn():
            pass
        with pytest.warns(BusyWarning), turn("go-on") as inner, pytest.raises(UsageError, match="itself"), turn():
            assert inner.neighbours() == [Neighbour(os.getpid(), os.geteuid())]
    begun, end = threading.Event(), threading.Event()

    def other() -> None:
        with turn():
            begun.set()
            end.wait()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    with pytest.warns(BusyWarning, match=f"process {os.getpid()}"), turn("wait", lambda *_: end.set()):
        thread.join()


def test_no_child_keeps_the_turn_of_its_parent(name: str) -> None:
    with contextlib.ExitStack() as children:
        with turn():
            started = children.enter_context(subprocess.Popen(["sleep", "60"]))
            children.callback(started.kill)
            pipe, begun = os.pipe(), os.pipe()
            forked = os.fork()
            if forked == 0:
                with contextlib.suppress(BaseException):
                    os.close(pipe[1])
                    os.write(begun[1], b"!")
                    os.read(pipe[0], 1)
                os._exit(0)
            os.close(pipe[0])
            children.callback(os.waitpid, forked, 0)
            children.callback(os.close, pipe[1])
            # Python lets go of the turn in the child as its first act there, but for a moment the child has it.
            assert os.read(begun[0], 1) == b"!"
            for end in begun:
                os.close(end)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with turn():
                pass


def test_what_is_no_answer_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"'sulk' is nothing to do if the machine is busy. Give one of: wait, go-on"), turn("sulk"):
        pass


def test_so_many_beside_each_other_are_enough(name: str) -> None:
    with contextlib.ExitStack() as others:
        others.enter_context(turn())
        for _ in range(7):
            with pytest.warns(BusyWarning):
                others.enter_context(turn("go-on"))
        with pytest.raises(UnavailableError, match="8 allocation experiments measure beside each other"), turn("go-on"):
            pass


def _listening(name: str, backlog: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(name)
    made.listen(backlog)
    return made


def test_a_name_that_is_held_and_does_not_answer_is_waited_for_too(name: str) -> None:
    mute = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mute.bind(turns._ALONE)
    seen = pytest.warns(BusyWarning, match="a process that cannot be seen from here")
    with mute, seen, turn("wait", lambda *_: mute.close()):
        assert mute.fileno() == -1


def test_one_that_takes_no_more_callers_is_waited_for_too(name: str) -> None:
    with _listening(turns._ALONE, 0) as full, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.connect(turns._ALONE)
        with pytest.warns(BusyWarning, match="cannot be seen"), turn("wait", lambda *_: full.close()):
            assert full.fileno() == -1


def test_one_that_hangs_up_on_its_callers_is_asked_again_but_not_all_the_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, pauses = [], []
    rude = _listening(turns._ALONE, 8)
    answer = turns._answer

    def counted(of: str, word: bytes = b"") -> object:
        found = answer(of, word)
        if of == turns._ALONE and found is not None:
            asked.append(found)
            rude.accept()[0].close()
        if len(asked) == 3:
            rude.close()
        return found

    monkeypatch.setattr(turns, "_answer", counted)
    monkeypatch.setattr(turns.time, "sleep", pauses.append)
    with rude, pytest.warns(BusyWarning) as warned, turn():
        assert len(asked) == len(pauses) == 3
    assert len(warned) == 1


def test_callers_who_only_look_or_talk_nonsense_are_no_neighbours(name: str) -> None:
    with turn() as mine, contextlib.ExitStack() as callers:
        for word in [b"", b"beside"[:3], b"x" * 100_000] * 60:
            caller = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            with contextlib.suppress(BlockingIOError):
                caller.connect(turns._ALONE)
                caller.send(word)
        assert mine.neighbours() == []
        with pytest.warns(BusyWarning), turn("go-on"):
            pass
        assert mine.neighbours() == [Neighbour(os.getpid(), os.geteuid())]


def test_without_a_socket_it_goes_on_and_says_what_cannot_be_told(name: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with turn() as mine:
            assert mine.unseen == os.strerror(errno.EMFILE)
            assert mine.neighbours() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.root
def test_another_user_is_seen_and_named(name: str) -> None:
    require_root()
    with _holder(name, "wait", "65534") as first:
        assert _said(first.stdout) == "begun"
        with pytest.warns(BusyWarning, match=rf"process {first.pid} of user 65534"), turn("go-on"):
            pass
        assert _end(first) == f"{os.getpid()} ended"
