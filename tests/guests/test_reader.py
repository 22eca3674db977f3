"""The program that reads in a guest: its instructions are those its comments say, and on this machine it does what it promises."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.needs import need, require_tool
from tests.sensors.test_machine_code import assembles_to, said_in
from toolkit.errors import UsageError
from toolkit.guests import reader
from toolkit.guests.reader import MACHINE_CODE, RECORD_BYTES, Reading, program, readings

SECOND = 10**9


def test_the_machine_code_is_what_its_comments_say(tmp_path: Path) -> None:
    assembler = "as" if platform.machine() == "x86_64" else "x86_64-linux-gnu-as"
    require_tool(assembler)
    text = Path(reader.__file__).read_text(encoding="utf-8")
    instructions = said_in(text.split("MACHINE_CODE = bytes.fromhex(")[1].split("\n)\n")[0])
    assembles_to(MACHINE_CODE, instructions, tmp_path / "it.o", assembler)


def test_the_file_is_small_and_its_code_ends_before_its_data() -> None:
    made = program("/dev/hwrng", 64, 1.0, 1)
    assert len(made) < 1024
    assert made.index(MACHINE_CODE) + len(MACHINE_CODE) <= made.index(b"/dev/hwrng")


def run(folder: Path, made: bytes, most: int, kill_after_s: float | None = None) -> tuple[int, list[Reading]]:
    """Run it on this machine, as a guest does; gives its status and what it wrote down."""
    need(platform.machine() == "x86_64", "an x86-64 processor")
    path, records = folder / "read", folder / "records"
    path.write_bytes(made)
    path.chmod(0o700)
    records.write_bytes(bytes(most * RECORD_BYTES))
    with records.open("r+b") as out, subprocess.Popen([path], cwd=folder, stdin=subprocess.DEVNULL, stdout=out) as process:
        try:
            status = process.wait(60 if kill_after_s is None else kill_after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    # Whole records, and where it ended by itself no more than it wrote.
    assert records.stat().st_size % RECORD_BYTES == 0
    return status, readings(records.read_bytes())


@pytest.mark.parametrize(("source", "block"), [("getrandom", 32), ("/dev/urandom", 4096), ("/dev/zero", 1 << 16)])
def test_reads_are_written_down_with_their_times_one_after_the_other(source: str, block: int, tmp_path: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    status, found = run(tmp_path, program(source, block, 60.0, 10), 10)
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert status == 0
    assert len(found) == 10
    assert all(block >= (each.read_bytes or 0) > 0 for each in found)
    times = [moment for each in found for moment in (each.called_ns, each.returned_ns or 0)]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= after


def test_it_ends_with_its_budget_and_its_file_is_cut_to_what_was_written(tmp_path: Path) -> None:
    most = 100_000
    status, found = run(tmp_path, program("getrandom", 1, 0.05, most, rest_s=0.001), most)
    assert status == 0
    assert 1 < len(found) < most
    assert (tmp_path / "records").stat().st_size == len(found) * RECORD_BYTES
    last = found[-1].returned_ns or 0
    assert last - found[0].called_ns >= 0.05 * SECOND
    assert (found[-2].returned_ns or 0) - found[0].called_ns < 0.05 * SECOND  # the first after the budget is the last


def test_it_rests_between_two_reads(tmp_path: Path) -> None:
    _, found = run(tmp_path, program("getrandom", 8, 60.0, 4, rest_s=0.02), 4)
    assert len(found) == 4
    assert all(b.called_ns - (a.returned_ns or 0) >= 0.02 * SECOND for a, b in itertools.pairwise(found))


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    status, found = run(tmp_path, program("no", 8, 1.0, 4), 4)
    assert status == 1
    assert [(each.read_bytes, each.errno) for each in found] == [(None, errno.ENOENT)]


def test_the_end_of_a_file_ends_it(tmp_path: Path) -> None:
    status, found = run(tmp_path, program("/dev/null", 8, 60.0, 4), 4)
    assert status == 0
    assert [(each.read_bytes, each.errno) for each in found] == [(0, None)]
    assert found[0].returned_ns is not None
    assert (tmp_path / "records").stat().st_size == RECORD_BYTES


def test_a_read_that_fails_is_written_down_and_ends_it(tmp_path: Path) -> None:
    _, found = run(tmp_path, program("/proc/self", 8, 60.0, 4), 4)
    assert [(each.read_bytes, each.errno) for each in found] == [(None, errno.EISDIR)]
    assert found[0].returned_ns is not None


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[int]:
    """The writing end of a pipe named fifo, at which nothing comes but what a test writes, and no end."""
    os.mkfifo(tmp_path / "fifo")
    opened = os.open(tmp_path / "fifo", os.O_RDWR)
    yield opened
    os.close(opened)


def test_a_read_that_never_returns_is_there_after_the_program_was_killed(tmp_path: Path, writer: int) -> None:
    os.write(writer, b"12345678")
    status, found = run(tmp_path, program("fifo", 8, 60.0, 4), 4, kill_after_s=1.0)
    assert status == -signal.SIGKILL
    assert found[0].read_bytes == 8
    assert [each._replace(called_ns=0) for each in found[1:]] == [Reading(0, None, None, None)]


def test_asking_without_waiting_ends_with_the_budget_and_leaves_one_read_in_flight(tmp_path: Path, writer: int) -> None:
    status, found = run(tmp_path, program("fifo", 8, 0.1, 4, pause_s=0.001), 4)
    assert status == 0
    assert [each._replace(called_ns=0) for each in found] == [Reading(0, None, None, None)]
    os.write(writer, b"123")
    _, found = run(tmp_path, program("fifo", 8, 0.1, 4, pause_s=0.001), 4)
    assert [each.read_bytes for each in found] == [3, None]  # what had come, not all that was asked for
    assert found[1].returned_ns is None


def test_what_could_not_be_read_is_refused() -> None:
    for source, block, budget, most in (
        ("/" + "a" * 63, 8, 1.0, 1),
        ("/dev/a\0b", 8, 1.0, 1),
        ("", 8, 1.0, 1),
        ("getrandom", 0, 1.0, 1),
        ("getrandom", (1 << 16) + 1, 1.0, 1),
        ("getrandom", 8, 1.0, 0),
        ("getrandom", 8, -1.0, 1),
        ("getrandom", 8, float("nan"), 1),
    ):
        with pytest.raises(UsageError, match="at most 63 bytes, 1 byte to 64 KiB, and at least one read"):
            program(source, block, budget, most)
    assert program("/" + "a" * 62, 1 << 16, 1e300, 1)  # the most of each


WHOLE = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(-200, 200)
RECORDS = st.lists(st.tuples(*[WHOLE | NEAR] * 3), max_size=12).map(
    lambda rows: b"".join(struct.pack("<qqq", *row) for row in rows)
)


@given(st.binary(max_size=400) | RECORDS)
def test_whatever_a_guest_wrote_its_times_never_run_backwards_and_only_the_last_may_not_have_returned(records: bytes) -> None:
    found = readings(records)
    times = [moment for each in found for moment in (each.called_ns, each.returned_ns) if moment is not None]
    assert times == sorted(times)
    assert all(each.returned_ns is not None for each in found[:-1])
    for each in found:
        assert each.read_bytes is None or each.errno is None
        assert each.read_bytes is None or 0 <= each.read_bytes < 2**63
        assert each.errno is None or 0 < each.errno < 4096


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 64)), max_size=20))
def test_what_a_program_wrote_is_read_as_it_was(rows: list[tuple[int, int, int]]) -> None:
    now, wrote = 1, []
    for wait, rest, size in rows:
        wrote.append(Reading(now, now + wait, size, None))
        now += wait + rest
    packed = b"".join(struct.pack("<qqq", each.called_ns, each.returned_ns, each.read_bytes) for each in wrote)
    assert readings(packed + bytes(48)) == wrote
