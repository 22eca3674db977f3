"""Timed reads: sources that give, trickle, are silent, missing or refused, and none that hangs or leaves a process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need
from tests.sensors.interpreters import as_nobody
from toolkit.errors import UnavailableError, UsageError
from toolkit.sensors import read_log
from toolkit.sensors.call_row import _Maker, call_row
from toolkit.sensors.read_log import AT_ONCE, ReadLog
from toolkit.sensors.source_reader import Source, read_until
from toolkit.sensors.sources import BLOCKS_BYTES, MOST_READS, SourceRead, read_source

_SHORT_S = 0.1


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "device"
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def held(fifo: Path) -> Iterator[int]:
    """The other end of a FIFO, held open: the source is there, and gives what is written to it."""
    end = os.open(fifo, os.O_RDWR)
    try:
        yield end
    finally:
        os.close(end)


@contextlib.contextmanager
def trickling(end: int, drop: bytes) -> Iterator[None]:
    """A few bytes every hundredth of a second, as long as the body runs."""
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.01):
            os.write(end, drop)

    writer = threading.Thread(target=trickle)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def only(reads: list[SourceRead]) -> SourceRead:
    assert len(reads) == 1
    return reads[0]


@pytest.mark.parametrize("source", ["getrandom", "/dev/random", "/dev/urandom"])
@pytest.mark.parametrize("block_bytes", BLOCKS_BYTES)
def test_a_source_gives_the_blocks_that_are_asked_for(source: str, block_bytes: int) -> None:
    reads = read_source(source, block_bytes, 10.0, most_reads=20)
    assert len(reads) == 20
    assert {read[1:4] for read in reads} == {(source, block_bytes, block_bytes)}
    assert {read.errno for read in reads} == {None}
    assert [read.t_ns for read in reads] == sorted(read.t_ns for read in reads)


def test_times_are_of_the_boot_clock_and_reads_do_not_overlap() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    reads = read_source("/dev/urandom", 64, 10.0, most_reads=50)
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before < reads[0].t_ns
    assert reads[-1].t_ns + reads[-1].wait_ns < after
    assert all(one.t_ns + one.wait_ns <= next_.t_ns for one, next_ in itertools.pairwise(reads))


def test_reading_stops_when_there_are_enough_reads() -> None:
    assert len(read_source("/dev/urandom", 1, 60.0)) == MOST_READS


def test_reading_stops_at_the_end_of_the_budget() -> None:
    reads = read_source("/dev/zero", 1 << 20, _SHORT_S)
    assert 0 < len(reads) < MOST_READS


def test_a_silent_source_is_one_row_with_its_wait(fifo: Path) -> None:
    with held(fifo):
        read = only(read_source(str(fifo), 64, _SHORT_S))
    assert (read.read_bytes, read.errno) == (None, errno.ETIMEDOUT)
    assert read.wait_ns > 0


def test_a_source_that_cannot_even_be_opened_does_not_hang(fifo: Path) -> None:
    read = only(read_source(str(fifo), 64, _SHORT_S))
    assert (read.read_bytes, read.errno) == (None, errno.ETIMEDOUT)


def test_a_source_that_falls_silent_keeps_what_it_gave(fifo: Path) -> None:
    with held(fifo) as end:
        os.write(end, b"x" * 10)
        reads = read_source(str(fifo), 64, _SHORT_S)
    assert [(read.read_bytes, read.errno) for read in reads] == [(10, None), (None, errno.ETIMEDOUT)]


def test_a_trickling_source_ends_with_the_budget(fifo: Path) -> None:
    with held(fifo) as end, trickling(end, b"drop"):
        reads = read_source(str(fifo), 4096, 0.3)
    given = [read for read in reads if read.errno is None]
    assert given
    assert all(0 < (read.read_bytes or 0) < 4096 for read in given)
    assert {read.errno for read in reads[len(given) :]} <= {errno.ETIMEDOUT}


def test_a_terminal_gives_short_reads_as_they_are() -> None:
    master, slave = os.openpty()
    try:
        os.write(master, b"four\n")
        reads = read_source(os.ttyname(slave), 64, _SHORT_S)
    finally:
        os.close(master)
        os.close(slave)
    assert [(read.read_bytes, read.errno) for read in reads] == [(5, None), (None, errno.ETIMEDOUT)]


def test_the_end_of_a_source_is_a_read_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    read = only(read_source(str(tmp_path / "empty"), 64, 5.0))
    assert (read.read_bytes, read.errno) == (0, None)


def test_a_missing_source_says_so(tmp_path: Path) -> None:
    read = only(read_source(str(tmp_path / "hwrng"), 64, 5.0))
    assert (read.read_bytes, read.errno) == (None, errno.ENOENT)


def test_a_source_that_is_no_file_says_so(tmp_path: Path) -> None:
    assert only(read_source(str(tmp_path), 64, 5.0)).errno == errno.EISDIR


@pytest.mark.root
def test_a_source_that_is_refused_says_so() -> None:
    code = """
import os, tempfile
from toolkit.sensors.sources import read_source
with tempfile.NamedTemporaryFile() as file:
    os.chmod(file.name, 0)
    print(*[read.errno for read in read_source(file.name, 64, 5.0)])
    print(*[read.errno for read in read_source("/dev/urandom", 64, 5.0, most_reads=1)])
"""
    assert as_nobody(code).split() == [str(errno.EACCES), "None"]


class Given:
    """A source that gives what a test says, through Python and in a row: what read(2) would give, time after time."""

    def __init__(self, *gives: int | None, call: tuple[str, list[int]] | None = None) -> None:
        self.gives = iter(gives)
        self.call = call

    def read(self) -> int | None:
        return next(self.gives)

    def close(self) -> None:
        pass


def logged(source: Given | Source, most_reads: int = 1000) -> list[int]:
    """What the reader notes of a source, in this process."""
    log = ReadLog(memoryview(bytearray(ReadLog.size_bytes(most_reads))).cast("q"))
    read_until(lambda: source, 5.0, most_reads, log)  # type: ignore[arg-type, return-value]
    return [read.gave for read in log.reads()]


def test_a_device_that_says_again_is_a_row_with_that_errno() -> None:
    assert logged(Given(None)) == [-errno.EAGAIN]


def in_rows() -> None:
    if call_row().make is None:
        pytest.skip("there is no machine code for this machine")


def test_quick_reads_are_made_in_rows_and_all_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    in_rows()
    singles = []
    source = Source("/dev/urandom", 64)
    real = source.read
    monkeypatch.setattr(source, "read", lambda: singles.append(real()) or singles[-1])
    assert logged(source, 1000) == [64] * 1000
    assert len(singles) < 500  # a machine that is busy may make some reads slow; those are made one at a time


def test_the_end_and_an_error_within_a_row_end_it_where_they_came(tmp_path: Path) -> None:
    in_rows()
    short = tmp_path / "short"
    short.write_bytes(b"x" * 1000)
    assert logged(Source(str(short), 64)) == [64] * 15 + [40, 0]
    memory = ctypes.create_string_buffer(64)
    assert logged(Given(64, call=("read", [10**6, ctypes.addressof(memory), 64]))) == [64, -errno.EBADF]


def test_reads_of_a_row_that_was_cut_are_kept_and_none_is_noted_twice() -> None:
    in_rows()
    numbers = memoryview(bytearray(ReadLog.size_bytes(10))).cast("q")
    log = ReadLog(numbers)
    begun = log.begin()
    memory = ctypes.create_string_buffer(64)
    row = log.row("getrandom", [ctypes.addressof(memory), 64, 0])
    assert row is not None
    log.put(begun, begun + 1, 64)
    assert row(5)
    # As after a kill in the middle of the third read, when one of the two before had been noted already.
    moments = len(numbers) - AT_ONCE * (4 + 3 * 6)
    numbers[moments + 4 * 2 + 2] = numbers[moments + 4 * 2 + 3] = 0
    called = numbers[moments + 8] * 10**9 + numbers[moments + 9]
    first = numbers[moments : moments + 4]
    log.put(first[0] * 10**9 + first[1], first[2] * 10**9 + first[3], 64)
    log.give_up(3600.0)
    assert [read.gave for read in log.reads()] == [64, 64, 64, -errno.ETIMEDOUT]
    last = list(log.reads())[-1]
    assert (last.called_ns, last.called_ns + last.wait_ns) == (called, begun + 3600 * 10**9)


def test_a_source_that_falls_silent_in_a_row_is_given_up_at_the_end_of_the_budget(fifo: Path) -> None:
    with held(fifo) as end:
        os.write(end, b"x" * 6400)
        reads = read_source(str(fifo), 64, 0.3)
    assert [read.read_bytes for read in reads] == [64] * 100 + [None]
    assert reads[-1].errno == errno.ETIMEDOUT
    assert reads[-1].wait_ns > 0.2e9
    assert [read.t_ns + read.wait_ns for read in reads] == sorted(read.t_ns + read.wait_ns for read in reads)


def test_a_read_of_a_killed_row_that_was_called_after_the_budget_is_no_failure() -> None:
    in_rows()
    log = ReadLog(memoryview(bytearray(ReadLog.size_bytes(10))).cast("q"))
    log.begin()
    memory = ctypes.create_string_buffer(64)
    row = log.row("getrandom", [ctypes.addressof(memory), 64, 0])
    assert row is not None
    assert row(3)
    log.give_up(0.0)
    assert [read.gave for read in log.reads()] == [64, 64, 64]


def test_a_source_that_slows_down_in_a_row_keeps_what_it_gave_and_ends(fifo: Path) -> None:
    with held(fifo) as end:
        os.write(end, b"x" * 6400)
        with trickling(end, b"x"):
            reads = read_source(str(fifo), 64, 0.3)
    assert [read.read_bytes for read in reads[:100]] == [64] * 100
    assert len(reads) > 102
    assert all(0 < (read.read_bytes or 0) < 64 for read in reads[101:-1])


def test_where_no_machine_code_runs_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_log, "call_row", lambda: _Maker(None, "none here"))
    assert logged(Source("getrandom", 32), 50) == [32] * 50


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The reading processes that were started."""
    readers: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            readers.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return readers


def test_no_process_is_left(fifo: Path, started: list[subprocess.Popen[bytes]]) -> None:
    with held(fifo):
        read_source(str(fifo), 64, _SHORT_S)
    read_source("getrandom", 64, 5.0, most_reads=1)
    assert [reader.returncode for reader in started] == [0, 0]


def test_a_reader_that_no_alarm_ends_is_killed_and_its_reads_are_kept(fifo: Path, started: list[subprocess.Popen[bytes]]) -> None:
    def stop_once_it_reads() -> None:
        while not (started and str(fifo) in _files_of(started[0].pid)):
            time.sleep(0.005)
        os.kill(started[0].pid, signal.SIGSTOP)

    with held(fifo) as end:
        os.write(end, b"x" * 10)
        stopper = threading.Thread(target=stop_once_it_reads)
        stopper.start()
        reads = read_source(str(fifo), 10, 0.5)
        stopper.join()
    assert started[0].returncode == -signal.SIGKILL
    assert reads[-1].errno == errno.ETIMEDOUT
    assert [read.read_bytes for read in reads[:-1]] in ([], [10])


def test_the_reader_goes_with_its_parent(fifo: Path) -> None:
    code = "import sys; from toolkit.sensors.sources import read_source; read_source(sys.argv[1], 64, 3600.0)"
    with held(fifo), subprocess.Popen([sys.executable, "-c", code, str(fifo)]) as parent:
        readers: list[int] = []
        while not readers:
            assert parent.poll() is None
            readers = [pid for pid in _processes() if pid not in (os.getpid(), parent.pid) and str(fifo) in _files_of(pid)]
            time.sleep(0.01)
        parent.kill()
        parent.wait()
        while any(str(fifo) in _files_of(pid) for pid in readers):
            time.sleep(0.01)


def test_an_interrupted_reading_leaves_no_process(fifo: Path, started: list[subprocess.Popen[bytes]]) -> None:
    def interrupt_once_it_reads() -> None:
        while not (started and str(fifo) in _files_of(started[0].pid)):
            time.sleep(0.005)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_once_it_reads)
    with held(fifo):
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            read_source(str(fifo), 64, 60.0)
        interrupter.join()
    assert started[0].returncode is not None
    assert started[0].pid not in _processes()


def test_a_reader_that_fails_is_an_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match="getrandom failed"):
        read_source("getrandom", 64, 1.0)


@pytest.mark.parametrize(
    ("source", "block_bytes", "budget_s", "most_reads"),
    [
        ("hwrng", 64, 1.0, 1),
        ("", 64, 1.0, 1),
        ("getrandom", 0, 1.0, 1),
        ("getrandom", 64, 0.0, 1),
        ("getrandom", 64, float("nan"), 1),
        ("getrandom", 64, 1.0, 0),
    ],
)
def test_what_cannot_be_meant_is_refused(source: str, block_bytes: int, budget_s: float, most_reads: int) -> None:
    with pytest.raises(UsageError):
        read_source(source, block_bytes, budget_s, most_reads)


def test_the_hardware_source_gives_or_says_why_not() -> None:
    need(Path("/dev/hwrng").exists(), "/dev/hwrng")
    reads = read_source("/dev/hwrng", 1 << 20, 0.3)
    assert all((read.read_bytes is None) == (read.errno is not None) for read in reads)
    assert reads[-1].errno in (None, errno.ETIMEDOUT, errno.ENODEV, errno.EACCES)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _files_of(pid: int) -> set[str]:
    """The files that a process has open; none where there is no such process."""
    files = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                files.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return files
