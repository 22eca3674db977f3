"""Every command of the command line, each with words that make it do little: for faults that must be seen through all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.cli import app

#: What a command is called with beside ``--store``, in a folder with a file ``file``. A new command must be put here.
WORDS: dict[str, list[str]] = {
    "doctor": [],
    "watch": ["--for", "200ms", "--every", "20ms"],
    "sources": ["--source", "getrandom", "--block", "64", "--budget", "20ms"],
    "allocate": ["--directory", ".", "--method", "ftruncate", "--size", "4KiB", "--repeat", "1"],
    "extents": ["file"],
    "measure": ["--for", "200ms", "--budget", "10ms", "--size", "64KiB", "--repeat", "1", "--directory", "."],
    "report": ["--out", "out"],
    "notebooks": ["--no-browser"],
}

#: Those that write into the store they are given.
STORING = ["doctor", "watch", "sources", "allocate", "extents", "measure"]


def names() -> list[str]:
    """The names of all commands that there are."""
    return [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]


def called(
    name: str, *more: str | bytes, cwd: Path, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Call a command in a folder, made with the file it may need; gives what it said, as bytes."""
    if not os.path.lexists(cwd / "file"):
        (cwd / "file").write_bytes(b"x" * 8192)
    command = [*prefix, sys.executable, "-m", "toolkit", name, *WORDS[name], *more]
    surroundings = os.environ | dict(environment or {})
    return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, check=False, timeout=240)


def refused(done: subprocess.CompletedProcess[bytes], *words: bytes, status: int = 1) -> None:
    """A command has said what is wrong, with these words, and what to do; and has no traceback."""
    assert done.returncode == status, done.stderr.decode("utf-8", "replace")
    assert b"Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    said = next(place for place, line in enumerate(lines) if line.startswith(b"error: "))
    for word in words:
        assert word in lines[said], lines
    assert lines[said + 1].startswith(b"       "), lines
