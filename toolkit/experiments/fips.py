"""FIPS 140-2's statistical tests of a random source, by rngtest: so many blocks are read within a budget of time, and counted.

What the counts mean is :mod:`toolkit.analysis.fips`' business.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from toolkit.errors import UnavailableError, UsageError
from toolkit.lab_feeders import find_rngtest
from toolkit.markup import visible
from toolkit.progress import Progress, silent

__all__ = ["BLOCK_BYTES", "MOST_BLOCKS", "Counted", "count_failures"]

BLOCK_BYTES = 2500
#: 250 MB; a hundred times what it takes to tell.
MOST_BLOCKS = 100_000
#: As toolkit.analysis.fips names them, which stands further up.
_NAMES = ("any", "monobit", "poker", "runs", "long run", "continuous run")
# rngtest begins with 32 bits that it compares the first word with.
_FIRST_BYTES = 4

_RNGTEST_S = 120.0
_GRACE_S = 1.0
_PIPE_BYTES = 65536

# A read of a device may block where no signal but SIGKILL ends it, so a process of its own reads; it ends with its parent
# (PR_SET_PDEATHSIG of include/uapi/linux/prctl.h) and says what it was refused by its last line.
_READER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
name, block = sys.argv[1], int(sys.argv[2])
try:
    if name == "getrandom":
        read = lambda: os.getrandom(block)
    else:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        read = lambda: os.read(file, block)
    while True:
        data = memoryview(read())
        if not data:
            break
        while data:
            data = data[os.write(1, data):]
except OSError as error:
    sys.exit(error.strerror)
"""


@dataclass(frozen=True)
class Counted:
    """What rngtest counted of one source.

    Attributes
    ----------
    source : str
    asked_blocks : int
        Blocks of 2,500 bytes that were wanted.
    read_bytes : int
        What the source gave.
    seconds : float
        How long it took to give that.
    ended : str
        ``enough``, ``budget`` (the time was up), ``end`` (there was no more), or what the source refused.
    blocks : int
        Whole blocks that were tested.
    failures : dict of str to int
        Blocks that failed each test, by the names in :data:`toolkit.analysis.fips.TESTS`; ``any`` is those that failed at all.
    """

    source: str
    asked_blocks: int
    read_bytes: int
    seconds: float
    ended: str
    blocks: int
    failures: dict[str, int] = field(default_factory=dict)


def count_failures(source: str, blocks: int = 1000, budget_s: float = 30.0, progress: Progress = silent) -> Counted:
    """Read blocks from a source and have rngtest test them.

    Parameters
    ----------
    source : str
        ``getrandom``, a device, or a file.
    blocks : int
        Blocks of 2,500 bytes (20,000 bits).
    budget_s : float
        Seconds after which reading ends, whatever the source does; what was read by then is tested.
    progress : Progress
        Told of blocks.

    Returns
    -------
    Counted

    Raises
    ------
    UnavailableError
        If there is no rngtest, if the source cannot be opened, or if rngtest fails.
    UsageError
        If an argument cannot be meant.

    Examples
    --------
    >>> count_failures("/dev/urandom", blocks=10).blocks  # doctest: +SKIP
    10
    """
    if not 1 <= blocks <= MOST_BLOCKS or not 0 < budget_s < 86400 or not source:
        raise UsageError(
            f"{source!r} cannot be tested with {blocks} blocks in {budget_s} s",
            f"Give 1 to {MOST_BLOCKS:,} blocks, and less than a day.",
        )
    program = find_rngtest()
    with tempfile.TemporaryFile() as kept:
        begun = time.monotonic()
        ended = _read(source, _FIRST_BYTES + blocks * BLOCK_BYTES, begun + budget_s, kept, progress)
        seconds = time.monotonic() - begun
        read_bytes = kept.tell()
        kept.seek(0)
        # Of less than its first word rngtest counts nothing at all, not even to 0.
        tested, failures = _parsed(_tested(program, kept)) if read_bytes >= _FIRST_BYTES else (0, dict.fromkeys(_NAMES, 0))
    return Counted(source, blocks, read_bytes, seconds, ended, tested, failures)


def _read(source: str, wanted: int, until: float, kept: IO[bytes], progress: Progress) -> str:
    """Keep so many bytes of a source; gives why there are no more."""
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _READER, source, str(BLOCK_BYTES)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reader.stdout is not None  # noqa: S101 - as asked for
    assert reader.stderr is not None  # noqa: S101
    closed = False
    try:
        came = select.poll()
        came.register(reader.stdout, select.POLLIN)
        while kept.tell() < wanted:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return "budget"
            if not came.poll(min(left_s, 0.5) * 1000):
                continue
            data = os.read(reader.stdout.fileno(), min(_PIPE_BYTES, wanted - kept.tell()))
            if not data:
                closed = True
                break
            kept.write(data)
            progress(max(0, kept.tell() - _FIRST_BYTES) // BLOCK_BYTES, wanted // BLOCK_BYTES, f"reading {source}")
        if not closed:
            return "enough"
        said = reader.stderr.read(1000).decode("utf-8", "replace").strip().rpartition("\n")[2]
        if said and not kept.tell():
            name = visible(source)
            raise UnavailableError(
                f"{name} gives nothing: {visible(said)}", "Name a source that this user may read, or run as root."
            )
        return said or "end"
    finally:
        reader.kill()
        reader.stdout.close()
        reader.stderr.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # In a read that not even SIGKILL ends it is left behind: the kernel ends it when that read returns.
            reader.wait(_GRACE_S)
        if reader.returncode is None:
            reader.returncode = -9


def _tested(program: str, data: IO[bytes]) -> str:
    try:
        done = subprocess.run(
            [program], stdin=data, capture_output=True, timeout=_RNGTEST_S, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"rngtest has not ended within {_RNGTEST_S:.0f} s", "Test fewer blocks.") from error
    except OSError as error:
        raise UnavailableError(
            f"{program} cannot be run: {error.strerror}", "Run: toolkit lab fetch --remove --feeders."
        ) from error
    said = done.stderr.decode("utf-8", "replace")
    # rngtest(1): 1 says that a block failed, or that the input ended.
    if done.returncode not in (0, 1):
        last = visible(said.strip().rpartition("\n")[2], 300)
        raise UnavailableError(f"{Path(program).name} failed with status {done.returncode}: {last}", "Look at what it was given.")
    return said


def _parsed(said: str) -> tuple[int, dict[str, int]]:
    """Blocks and failures of what rngtest says when it ends."""
    found = {
        name.lower(): int(count)
        for name, count in re.findall(r"FIPS 140-2(?:\(2001-10-10\))? ([A-Za-z ]+): (\d+)$", said, re.MULTILINE)
    }
    if not {"successes", "failures", *_NAMES[1:]} <= found.keys():
        raise UnavailableError(
            f"rngtest did not say what it counted: {visible(said[-300:], 300)}", "Use the rngtest of rng-tools5."
        )
    return found["successes"] + found["failures"], {name: found["failures" if name == "any" else name] for name in _NAMES}
