"""The loop in machine code: the very instructions its comments say, and a write like os.write."""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.sensors import machine_code
from toolkit.sensors.write_loop import native_loop


@pytest.fixture
def write() -> object:
    loop = native_loop()
    if loop.write is None:
        pytest.skip(f"no machine code here: {loop.why_not}")
    return loop.write


@pytest.mark.parametrize("calls", [0, 1, 2, 1000])
def test_it_writes_the_block_so_many_times(write: object, calls: int, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert write(file.fileno(), b"abc\0d", calls) == 5 * calls
    assert (tmp_path / "file").read_bytes() == b"abc\0d" * calls


def test_each_block_is_a_system_call_of_its_own(write: object, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        before = _system_calls_of_writing()
        write(file.fileno(), bytes(100), 50)
        assert _system_calls_of_writing() - before == 50


def _system_calls_of_writing() -> int:
    return int(re.search(r"syscw: (\d+)", Path("/proc/self/io").read_text())[1])


def test_an_error_is_raised_with_its_number(write: object) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        write(10**6, b"x", 3)
    assert caught.value.errno == errno.EBADF


def test_a_short_write_ends_it_and_counts(write: object, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from toolkit.sensors.write_loop import native_loop;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.getrlimit(resource.RLIMIT_FSIZE)[1]));"
        "file = open(sys.argv[1], 'wb'); print(native_loop().write(file.fileno(), bytes(100), 9))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=True)
    assert done.stdout == "250\n"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 250


def test_a_full_pipe_gives_eagain(write: object) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            write(writing, bytes(4096), 10_000)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_machine_without_machine_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert native_loop.__wrapped__() == (None, "there is no machine code for s390x here")


def test_memory_that_may_not_be_executed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def mprotect(*_: object) -> int:
            return -1

    monkeypatch.setattr(machine_code, "_libc", Refusing)
    loop = native_loop.__wrapped__()
    assert loop.write is None
    assert "execute" in loop.why_not
