"""Machine code: the very instructions that its comments say; and calls in a row, as C would make them one by one."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import re
import subprocess
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.needs import require_tool
from toolkit.sensors import call_row, machine_code, write_loop
from toolkit.sensors.call_row import CallRow
from toolkit.sensors.look import Look, RawLooks
from toolkit.sensors.machine_code import executable
from toolkit.sensors.ticks import Ticks

ASSEMBLERS = {"x86_64": "as", "aarch64": "aarch64-linux-gnu-as"}


def listing(module: ModuleType, machine: str) -> str:
    """The instructions as the comments of the module say them, for the assembler."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    return said_in(text.split(f'"{machine}": bytes.fromhex(')[1].split("\n    ),")[0])


def said_in(part: str) -> str:
    """The instructions in the comments of some lines; what stands after four blanks is for people."""
    said = [line.split("# ", 1)[1].split("    ")[0] for line in part.splitlines() if "# " in line]
    return re.sub(r"(\w+:)", r"\1\n", "\n".join(said)) + "\n"


@pytest.mark.parametrize("module", [write_loop, call_row], ids=lambda module: module.__name__.rpartition(".")[2])
@pytest.mark.parametrize("machine", ASSEMBLERS)
def test_the_machine_code_is_what_its_comments_say(module: ModuleType, machine: str, tmp_path: Path) -> None:
    assembler = ASSEMBLERS[machine]
    if platform.machine() == machine:
        assembler = "as"
    require_tool(assembler)
    assembles_to(module.MACHINE_CODE[machine], listing(module, machine), tmp_path / "it.o", assembler)
    assert set(module.MACHINE_CODE) == set(ASSEMBLERS)


def assembles_to(code: bytes, instructions: str, made: Path, assembler: str) -> None:
    """What the assembler makes of instructions is this code, all of it."""
    subprocess.run([assembler, "-o", made], input=instructions.encode(), check=True)
    # An object file of 64-bit ELF holds .text, its only section with code, in one piece.
    assert code in made.read_bytes()
    assert len(code) == _text_bytes(made)


def _text_bytes(made: Path) -> int:
    sized = subprocess.run(["readelf", "-SW", made], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\.text\s+PROGBITS\s+\w+\s+\w+\s+(\w+)", sized)
    assert found
    return int(found[1], 16)


def row(*calls: tuple[str, list[int]]) -> CallRow:
    maker = call_row.call_row()
    if maker.make is None:
        pytest.skip(f"no machine code here: {maker.why_not}")
    return maker.make(calls)


def test_calls_are_made_in_their_order_with_all_their_arguments(tmp_path: Path) -> None:
    memory = ctypes.create_string_buffer(b"0123456789")
    place = ctypes.addressof(memory)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        fd = file.fileno()
        made = row(("write", [fd, place, 4]), ("pwrite", [fd, place + 8, 2, 1]), ("lseek", [fd, 0, 0]), ("read", [fd, place, 3]))
        assert made(4)
        assert (tmp_path / "file").read_bytes() == b"0893"
    assert memory.value == b"0893456789"


def test_only_so_many_are_made_and_they_can_be_made_again(tmp_path: Path) -> None:
    memory = ctypes.create_string_buffer(b"x")
    with (tmp_path / "file").open("wb", buffering=0) as file:
        made = row(*[("write", [file.fileno(), ctypes.addressof(memory), 1])] * 5)
        for calls, written in ((0, 0), (2, 2), (5, 7), (99, 12)):
            assert made(calls)
            assert os.fstat(file.fileno()).st_size == written


def test_a_call_that_fails_ends_the_row_and_leaves_its_number(tmp_path: Path) -> None:
    memory = ctypes.create_string_buffer(b"x")
    place = ctypes.addressof(memory)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        made = row(("write", [file.fileno(), place, 1]), ("write", [10**6, place, 1]), ("write", [file.fileno(), place, 1]))
        assert not made(3)
        assert ctypes.get_errno() == errno.EBADF
        assert os.fstat(file.fileno()).st_size == 1


def test_other_threads_run_meanwhile() -> None:
    reading, writing = os.pipe()
    memory = ctypes.create_string_buffer(1)
    waits = row(("read", [reading, ctypes.addressof(memory), 1]))
    threading.Timer(0.1, os.write, (writing, b"!")).start()
    assert waits(1)  # would wait for ever if the other thread could not write
    assert memory.raw == b"!"
    os.close(reading)
    os.close(writing)


def test_a_machine_without_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert executable(call_row.MACHINE_CODE) == (None, None, "there is no machine code for s390x here")


def test_a_system_that_runs_no_code_of_ours_is_named_and_looks_are_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def mprotect(*_: object) -> int:
            ctypes.set_errno(errno.EACCES)
            return -1

    monkeypatch.setattr(machine_code, "_libc", Refusing)
    call_row.call_row.cache_clear()
    try:
        assert "does not let this process execute memory" in str(call_row.call_row().why_not)
        made: list[RawLooks] = []
        with Look() as look, Ticks(1_000_000) as ticks:
            for _ in range(2):
                look.series(ticks, 2, made)
        seen = [each for raw in made for each in Look.looked(raw)]
        assert [each.crng_ready for each in seen] == [True] * 4
        assert [each.t_ns for each in seen] == sorted(each.t_ns for each in seen)
    finally:
        call_row.call_row.cache_clear()


def test_a_pool_that_cannot_be_read_any_more_is_an_error_and_leaves_the_looks_before_it() -> None:
    made: list[RawLooks] = []
    with Look() as look, Ticks(1_000_000) as ticks:
        look.series(ticks, 1, made)
        look.series(ticks, 3, made)
        gone = os.open("/dev/null", os.O_WRONLY)
        os.dup2(gone, look._available or -1)
        os.close(gone)
        with pytest.raises(OSError, match="the entropy pool cannot be read: Bad file descriptor"):
            look.series(ticks, 3, made)
    assert len([each for raw in made for each in Look.looked(raw)]) == 4


def test_a_series_of_many_is_made_at_the_timers_pace() -> None:
    made: list[RawLooks] = []
    with Look() as look, Ticks(100_000) as ticks:
        begun = time.monotonic()
        while len(seen := [each for raw in made for each in Look.looked(raw)]) < 1000:
            look.series(ticks, 1000 - len(seen), made)
        assert time.monotonic() - begun > 0.099
    assert len(seen) == 1000
    assert all(b.t_ns > a.t_ns for a, b in itertools.pairwise(seen))
    assert sum(each.moments for each in seen) >= 1000
