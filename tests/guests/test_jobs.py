"""Requests: what is refused, and that a job gives its rows and ends, whatever it meets."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.guests import jobs
from toolkit.guests.jobs import Job, refused
from toolkit.guests.leave import Leave
from toolkit.guests.wire import ALLOCATE, LAYOUTS, READ_SOURCES

_MIB = 1024 * 1024
_READ = {"request": 5, "source": "/dev/urandom", "block_bytes": 64, "budget_ns": 10**9, "most_reads": 3}
_FILES = {"request": 6, "place": "/a", "method": "posix_fallocate", "size_bytes": _MIB, "repeats": 2, "position": 0}
_LEAVE = Leave(allow=("sources", "allocation"), budget_s=2.0, directories=("/a", "/b"), disk=True, size_mib=2, files=3)


@pytest.mark.parametrize(
    "changed",
    [{}, {"source": "getrandom"}, {"budget_ns": 2 * 10**9}, {"block_bytes": _MIB}, {"most_reads": 10_000}],
    ids=str,
)
def test_reads_within_the_limits_are_allowed(changed: dict[str, Any]) -> None:
    assert refused(READ_SOURCES, {**_READ, **changed}, _LEAVE) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"source": "/dev/sda"}, "not among the devices"),
        ({"source": "/dev/urandom/"}, "not among the devices"),
        ({"source": None}, "not whole"),
        ({"budget_ns": 2 * 10**9 + 1}, "2.0 s are allowed"),
        ({"budget_ns": 0}, "2.0 s are allowed"),
        ({"budget_ns": -(10**9)}, "2.0 s are allowed"),
        ({"block_bytes": _MIB + 1}, "beyond 1 MiB"),
        ({"block_bytes": 0}, "beyond 1 MiB"),
        ({"most_reads": 10_001}, "or 10,000"),
        ({"most_reads": 0}, "or 10,000"),
    ],
    ids=str,
)
def test_reads_beyond_a_limit_are_refused(changed: dict[str, Any], why: str) -> None:
    assert why in (refused(READ_SOURCES, {**_READ, **changed}, _LEAVE) or "")


@pytest.mark.parametrize(
    "changed", [{}, {"place": "/b"}, {"place": "disk:ext4"}, {"size_bytes": 2 * _MIB}, {"repeats": 3}], ids=str
)
def test_files_within_the_limits_are_allowed(changed: dict[str, Any]) -> None:
    assert refused(ALLOCATE, {**_FILES, **changed}, _LEAVE) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"place": "/c"}, "not among the directories"),
        ({"place": "/a/../c"}, "not among the directories"),
        ({"place": "/a/"}, "not among the directories"),
        ({"place": ""}, "not among the directories"),
        ({"method": None}, "not whole"),
        ({"size_bytes": 2 * _MIB + 1}, "2 MiB that are allowed"),
        ({"size_bytes": 0}, "2 MiB that are allowed"),
        ({"repeats": 4}, "beyond the 3"),
        ({"repeats": 0}, "beyond the 3"),
        ({"position": -2}, "no position"),
        ({"position": 2**31 - 1}, "no position"),
    ],
    ids=str,
)
def test_files_beyond_a_limit_are_refused(changed: dict[str, Any], why: str) -> None:
    assert why in (refused(ALLOCATE, {**_FILES, **changed}, _LEAVE) or "")


def test_what_is_not_said_to_be_allowed_is_refused() -> None:
    assert 'no "sources" in allow' in (refused(READ_SOURCES, _READ, _LEAVE._replace(allow=("allocation",))) or "")
    assert 'no "allocation" in allow' in (refused(ALLOCATE, _FILES, _LEAVE._replace(allow=("sources",))) or "")
    assert "disk = true" in (refused(ALLOCATE, {**_FILES, "place": "disk:ext4"}, _LEAVE._replace(disk=False)) or "")


@contextlib.contextmanager
def _job(kind: int, asked: dict[str, Any], leave: Leave = _LEAVE) -> Iterator[Job]:
    job = Job(kind, asked, leave)
    try:
        yield job
    finally:
        job.close()
        assert job._process.poll() is not None


def _rows(job: Job) -> list[dict[str, Any]]:
    """What a job gives until it has ended."""
    rows = []
    ended = False
    while not ended:
        select.select([job.fd], [], [], 0.1)
        frames, ended = job.records()
        rows += [row for frame in frames for row in LAYOUTS[frame.kind].unpack(frame.payload)]
    assert job.count == len(rows)
    return rows


def test_a_source_is_read() -> None:
    with _job(READ_SOURCES, _READ) as job:
        rows = _rows(job)
        assert job.close() is None
        assert job.close() is None
    assert [(row["request"], row["source"], row["block_bytes"], row["read_bytes"], row["errno"]) for row in rows] == [
        (5, "/dev/urandom", 64, 64, None)
    ] * 3
    times = [row["t_ns"] for row in rows]
    assert times == sorted(set(times))


def test_more_reads_than_one_frame_holds_come_whole() -> None:
    with _job(READ_SOURCES, {**_READ, "block_bytes": 1, "most_reads": 10_000, "budget_ns": 10 * 10**9}) as job:
        assert len(_rows(job)) == 10_000
        assert job.close() is None


def test_a_source_that_is_missing_is_a_row_with_the_reason() -> None:
    with _job(READ_SOURCES, {**_READ, "source": "/no/such/source"}) as job:
        (row,) = _rows(job)
        assert job.close() is None
    assert (row["read_bytes"], row["errno"]) == (None, 2)


def test_files_are_made_in_a_folder_and_removed(tmp_path: Path) -> None:
    with _job(ALLOCATE, {**_FILES, "place": str(tmp_path), "position": 9}) as job:
        rows = _rows(job)
        assert job.close() is None
    assert [(row["request"], row["method"], row["repeat"], row["position"], row["errno"]) for row in rows] == [
        (6, "posix_fallocate", 0, 9, None),
        (6, "posix_fallocate", 1, 10, None),
    ]
    assert all(row["allocated_bytes"] >= _MIB and row["filesystem"] and row["mount_options"] for row in rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", [{"place": "/no/such/folder"}, {"method": "by hand"}], ids=str)
def test_what_cannot_be_done_ends_with_one_line_that_says_why(tmp_path: Path, changed: dict[str, Any]) -> None:
    with _job(ALLOCATE, {**_FILES, "place": str(tmp_path), **changed}) as job:
        assert _rows(job) == []
        why = job.close() or ""
    assert next(iter(changed.values())) in why
    assert "\n" not in why
    assert "Traceback" not in why


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    with _job(ALLOCATE, {**_FILES, "place": str(tmp_path / "link")}) as job:
        assert _rows(job) == []
        assert job.close() is not None


@pytest.fixture
def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A source that gives nothing, by a path that fits the request."""
    os.mkfifo(tmp_path / "f")
    path = f"/proc/{os.getpid()}/cwd/f"
    monkeypatch.chdir(tmp_path)
    assert len(path) <= 40
    return path


def test_a_source_that_hangs_ends_at_its_budget(fifo: str) -> None:
    with _job(READ_SOURCES, {**_READ, "source": fifo, "budget_ns": 3 * 10**8}) as job:
        (row,) = _rows(job)
        assert job.close() is None
    assert (row["read_bytes"], row["errno"]) == (None, 110)


def test_a_job_that_is_late_is_ended(fifo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_START_S", -3599.0)
    leave = _LEAVE._replace(budget_s=3600.0)
    with _job(READ_SOURCES, {**_READ, "source": fifo, "budget_ns": 3600 * 10**9}, leave) as job:
        while _processes_with(fifo) < 2:  # itself, and the one that reads
            time.sleep(0.02)
        while not job.is_late():
            time.sleep(0.02)
        _rows(job)
        assert job.close() == "it took longer than it may"
    while _processes_with(fifo):
        time.sleep(0.02)


def test_a_job_that_does_not_hear_a_polite_signal_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_START_S", -10.0)
    monkeypatch.setattr(jobs, "_TO_TAKE_DOWN_S", 0.2)
    with _job(READ_SOURCES, _READ) as job:
        os.kill(job._process.pid, signal.SIGSTOP)
        _rows(job)
        assert job.close() == "it took longer than it may"


_AGENT = """
import sys
from toolkit.guests.jobs import Job
from toolkit.guests.leave import Leave
from toolkit.guests.wire import READ_SOURCES
asked = {"request": 1, "source": sys.argv[1], "block_bytes": 64, "budget_ns": 3600 * 10**9, "most_reads": 1}
job = Job(READ_SOURCES, asked, Leave())
print("begun", flush=True)
sys.stdin.read()
"""


def test_a_job_ends_with_its_agent(fifo: str) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _AGENT, fifo], stdin=pipe, stdout=pipe) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"begun\n"
        while _processes_with(fifo) < 2:
            assert agent.poll() is None
            time.sleep(0.02)
        agent.kill()
    while _processes_with(fifo):
        time.sleep(0.02)


def test_a_job_does_not_look_for_modules_where_its_agent_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toolkit").mkdir()
    (tmp_path / "toolkit" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "ctypes.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with _job(READ_SOURCES, _READ) as job:
        assert len(_rows(job)) == 3
        assert job.close() is None


def _processes_with(source: str) -> int:
    """How many processes wait for a source: the reader, which names it, and the job that started it."""
    readers = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"source_reader" in (said := (process / "cmdline").read_bytes()) and os.fsencode(source) in said.split(b"\0"):
                readers.append(process)
    parents = set()
    for reader in readers:
        with contextlib.suppress(OSError):
            parent = (reader / "stat").read_text().rpartition(")")[2].split()[1]
            if b"toolkit.guests.jobs" in Path("/proc", parent, "cmdline").read_bytes():
                parents.add(parent)
    return len(readers) + len(parents)
