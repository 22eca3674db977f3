"""How the command line speaks: exit status, errors without traceback, inert text, JSON with nulls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pandas as pd
import pytest

from toolkit import terminal
from toolkit.errors import NotMeasuredWarning, ToolkitError, UsageError


def _raises(error: BaseException) -> None:
    raise error


def test_an_error_says_what_and_the_remedy_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.guarded(lambda: _raises(ToolkitError("the disk is full", "Free some space."))) == 1
    assert capsys.readouterr().err == "error: the disk is full\n       Free some space.\n"


def test_bad_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.guarded(lambda: _raises(UsageError("no such method", "Methods are: a, b."))) == 2
    assert "no such method" in capsys.readouterr().err


def test_an_interrupted_command_exits_with_1_and_says_that_what_was_stored_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.guarded(lambda: _raises(KeyboardInterrupt())) == 1
    assert "kept" in capsys.readouterr().err


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        terminal.guarded(lambda: 1 / 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_unwinds_the_command_so_that_it_cleans_up(number: int) -> None:
    cleaned = []

    def command() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    assert terminal.guarded(command) == 1
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_hang_up_that_our_parent_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert terminal.guarded(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_warning_of_ours_is_one_line_and_the_others_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.guarded(lambda: warnings.warn(NotMeasuredWarning("xfs was left out: no mkfs.xfs"), stacklevel=1))
    assert capsys.readouterr().err == "warning: xfs was left out: no mkfs.xfs\n"
    with pytest.raises(DeprecationWarning):
        terminal.guarded(lambda: warnings.warn("old", DeprecationWarning, stacklevel=1))


def test_an_escape_sequence_in_machine_text_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "evil\x1b[2J\x1b]0;owned\x07\u202egpj.exe[bold]x[/bold]"
    terminal.say(hostile)
    terminal.show(pd.DataFrame({"host": [hostile]}))
    terminal.guarded(lambda: _raises(ToolkitError(hostile, hostile)))
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "[bold]x[/bold]" in shown


def test_a_missing_value_is_a_dash_for_people_and_null_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"wait_ns": pd.array([5, None], dtype="Int64"), "rate": [1.5, float("nan")], "name": ["a", None]})
    terminal.show(frame, {"wait_ns": lambda value: f"{value} ns"})
    assert capsys.readouterr().out.count("–") == 3
    terminal.show_json(frame)
    assert json.loads(capsys.readouterr().out) == [
        {"wait_ns": 5, "rate": 1.5, "name": "a"},
        {"wait_ns": None, "rate": None, "name": None},
    ]


def test_whole_numbers_keep_every_digit_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_json(pd.DataFrame({"t_ns": pd.array([2**62 + 1], dtype="Int64")}))
    assert json.loads(capsys.readouterr().out) == [{"t_ns": 2**62 + 1}]


def test_json_rounds_nothing_and_has_no_word_that_is_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"third": [1 / 3, float("inf")], "utc": pd.to_datetime(["2026-01-01T00:00:00.123456789Z", None])})
    terminal.show_json(frame.assign(cells=[["a"], None]))
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [
        {"third": 1 / 3, "utc": "2026-01-01T00:00:00.123456789Z", "cells": ["a"]},
        {"third": None, "utc": None, "cells": None},
    ]


_ENDED_WHILE_IT_WRITES = """
import io, random, signal, sys
import pandas as pd
from toolkit import terminal

class Ended(BaseException): pass

def end(*_): raise Ended

signal.signal(signal.SIGALRM, end)
frame = pd.DataFrame({"errno": pd.array([None, 5] * 10, dtype="Int64"), "name": ["x"] * 20})
terminal.show_json(frame)
sys.stdout = io.StringIO()
for _ in range(400):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))
        while True:
            terminal.show_json(frame)
    except Ended:
        pass
"""


@pytest.mark.timeout(120)
def test_a_signal_while_json_is_written_ends_it_as_its_handler_says() -> None:
    done = subprocess.run([sys.executable, "-c", _ENDED_WHILE_IT_WRITES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_long_table_says_how_many_rows_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(pd.DataFrame({"x": range(100)}), most=10)
    assert "90 more rows" in capsys.readouterr().out


def test_no_bar_is_drawn_where_standard_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.bar("working") as progress:
        progress(1, 2, "half")
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    code = "from toolkit import terminal\nraise SystemExit(terminal.guarded(lambda: [print(n) for n in range(10**6)]))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_the_time_that_is_left_is_told_where_each_step_takes_minutes() -> None:
    now = 0.0
    shown = terminal._bar(lambda: now)
    task = shown.add_task("booting", total=40)
    left = []
    for done in range(1, 11):
        now += 90.0
        shown.update(task, completed=done)
        left.append(shown.tasks[0].time_remaining)
    assert left[1:] == [90 * (40 - done) for done in range(2, 11)]  # the first step tells no speed yet
    now += 300.0  # one that is never ready
    assert shown.tasks[0].time_remaining is not None
