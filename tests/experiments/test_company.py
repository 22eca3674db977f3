"""Two allocation experiments on one machine: the second waits or goes on beside, and both their runs tell. With real commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from toolkit.errors import BusyWarning, NotMeasuredWarning, ScratchError, UnavailableError, UsageError
from toolkit.experiments.allocation import allocate, allocate_on
from toolkit.experiments.survey import Survey
from toolkit.store import open_store

pytestmark = pytest.mark.machine

_SMALL = ["--method", "ftruncate", "--size", "4KiB", "--repeat", "1"]


@contextlib.contextmanager
def _toolkit(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "toolkit", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _measuring(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """An experiment that measures until its standard input ends; then it says what it knows of others."""
    code = """
import sys
from toolkit.experiments.allocation import in_directory
with in_directory(sys.argv[1], ["write_64k"], 1 << 20, 10**6, seed=1) as experiment:
    rows = experiment.rows()
    print(next(rows)["errno"], flush=True)
    sys.stdin.read()
    print(next(rows)["errno"], *(each.detail for each in experiment.disturbed_since()), flush=True)
"""
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "None\n"
            yield process
        finally:
            process.kill()


def _end(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    return process.stdout.readline().strip()


def _undisturbed(store: Path) -> pd.Series:
    rows = open_store(store).read("capabilities").set_index("capability")
    (row,) = rows.loc[["undisturbed allocation"]].itertuples()
    return pd.Series(row._asdict())


def test_a_command_says_who_measures_waits_and_then_measures_undisturbed(tmp_path: Path) -> None:
    words = ["allocate", *_SMALL, "--directory", str(tmp_path), "--store", str(tmp_path / "store")]
    with _measuring(tmp_path) as first, _toolkit(*words) as second:
        said = next(line for line in second.stderr if "Another" in line)
        assert said.startswith(f"warning: Another allocation experiment (process {first.pid}) is measuring on this machine")
        assert "--if-busy go-on" in said
        assert second.poll() is None
        assert open_store(tmp_path / "store").read("allocations").empty
        assert _end(first) == "None"
        assert second.wait() == 0, second.stderr.read()
    assert len(open_store(tmp_path / "store").read("allocations")) == 1
    assert _undisturbed(tmp_path / "store")["available"]


@pytest.mark.parametrize(
    "command", [["allocate", *_SMALL], ["measure", "--no-guests", "--for", "100ms", "--budget", "1ms", *_SMALL[2:]]]
)
def test_a_command_told_to_go_on_does_and_both_runs_say_so(tmp_path: Path, command: list[str]) -> None:
    words = [*command, "--if-busy", "go-on", "--directory", str(tmp_path), "--store", str(tmp_path / "store")]
    with _measuring(tmp_path) as first, _toolkit(*words) as second:
        said = second.communicate()[1]
        assert second.returncode == 0, said
        assert f"(process {first.pid}) is measuring on this machine, and each would disturb the other's figures" in said
        assert f"undisturbed allocation was not measured: another allocation experiment (process {first.pid}) measured" in said
        assert f"(process {second.pid}) measured on this machine at the same time: each disturbed" in _end(first)
    row = _undisturbed(tmp_path / "store")
    assert not row["available"]
    assert f"(process {first.pid})" in row["detail"]
    assert "Measure again" in row["remedy"]


def test_a_run_whose_neighbour_came_later_says_so_in_the_end(tmp_path: Path) -> None:
    words = ["--directory", str(tmp_path), "--method", "write_4k", "--size", "64MiB", "--store", str(tmp_path / "store")]
    # So long that the other is there within it: it ends by an interrupt.
    with _toolkit("allocate", *words, "--repeat", "100000") as first:
        assert first.stderr is not None
        assert "no caches were dropped" in first.stderr.readline()
        with pytest.warns(NotMeasuredWarning, match=rf"process {first.pid}"), pytest.warns(BusyWarning):
            frame = allocate(tmp_path, ["ftruncate"], 4096, 1, if_busy="go-on")
        assert len(frame) == 1
        first.send_signal(signal.SIGINT)
        assert first.wait() == 1
    row = _undisturbed(tmp_path / "store")
    assert not row["available"]
    assert f"(process {os.getpid()})" in row["detail"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_that_is_interrupted_ends_cleanly(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    words = ["allocate", *_SMALL, "--directory", str(folder), "--store", str(tmp_path / "store")]
    with _measuring(tmp_path) as first, _toolkit(*words) as second:
        next(line for line in second.stderr if "Another" in line)
        second.send_signal(number)
        assert second.wait() == 1
        assert second.stderr.read().startswith("interrupted: ")
        assert list(folder.iterdir()) == []
        assert _end(first) == "None"


def test_commands_that_allocate_nothing_do_not_wait(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    with _measuring(tmp_path):
        for words in (["watch", "--for", "50ms"], ["sources", "--budget", "1ms"]):
            with _toolkit(*words, *store) as command:
                assert "Another" not in command.communicate()[1]
                assert command.returncode == 0


def test_what_cannot_be_measured_at_all_is_refused_without_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit import scratch
    from toolkit.experiments import allocation
    from toolkit.filesystems import Support

    for module in (scratch, allocation):
        monkeypatch.setattr(module, "can_make", lambda name: Support(False, "an ordinary user may not mount", "Run as root."))
    with _measuring(tmp_path):
        with pytest.raises(UnavailableError, match="may not mount"):
            allocate_on(["ext4"], ["ftruncate"], 4096, 1)
        with pytest.raises(UsageError, match="is not a folder"):
            allocate(tmp_path / "missing", ["ftruncate"], 4096, 1)
        with pytest.raises(ScratchError, match="are missing"):
            allocate(tmp_path, ["ftruncate"], 2**60, 1)


@pytest.mark.parametrize("measure", [lambda told: allocate("/var/tmp", if_busy=told), lambda told: allocate_on(if_busy=told)])
def test_what_cannot_be_meant_is_refused(measure: object) -> None:
    with pytest.raises(UsageError, match="'sulk' is nothing to do"):
        measure("sulk")  # type: ignore[operator]


def test_what_to_do_if_busy_is_kept_with_the_settings(tmp_path: Path) -> None:
    plan = Survey.of(1.0, 1.0, 4096, 1, tmp_path, tmp_path, "go-on")
    assert plan.settings["allocations"]["if_busy"] == "go-on"


def test_where_nobody_can_be_seen_the_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit import turns

    def refused() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(turns, "_socket", refused)
    with pytest.warns(NotMeasuredWarning, match="at the same time cannot be told: Operation not permitted"):
        frame = allocate(tmp_path, ["ftruncate"], 4096, 1)
    assert frame["errno"].isna().all()
