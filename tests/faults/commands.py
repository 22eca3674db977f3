"""Every command of the command line, each with words that make it do little: for faults that must be seen through all of them."""

from __future__ import annotations

import json
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
    "measure": ["--for", "200ms", "--budget", "10ms", "--size", "64KiB", "--repeat", "1", "--directory", ".", "--no-guests"],
    "report": ["--out", "out"],
    "notebooks": ["--no-browser"],
}

#: Those that keep nothing, and have no store.
STORELESS = ["fips"]

#: Those that write into the store they are given.
STORING = ["doctor", "watch", "sources", "allocate", "extents", "measure"]


def names() -> list[str]:
    """The names of all commands that have a store."""
    every = [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]
    return [name for name in every if name not in STORELESS]


#: What runs commands one after the other in one process, each through the program's own beginning: the imports are what takes time.
_ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
from toolkit.__main__ import main
answers = []
for words in json.load(sys.stdin):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    sys.argv = ["toolkit", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leaves:
            answers.append((leaves.code or 0, out.buffer.getvalue().hex(), err.buffer.getvalue().hex()))
json.dump(answers, sys.stdout)
"""


def words(name: str, *more: str) -> list[str]:
    """What to call a command with."""
    return [name, *WORDS[name], *more]


def called(
    name: str, *more: str, cwd: Path, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Call a command, as a process of its own, in a folder that has the file it may need; gives what it said, as bytes."""
    _make_file(cwd)
    command = [*prefix, sys.executable, "-m", "toolkit", *words(name, *more)]
    surroundings = os.environ | dict(environment or {})
    return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, check=False, timeout=240)


def several(
    asked: Sequence[Sequence[str]], cwd: Path, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> list[subprocess.CompletedProcess[bytes]]:
    """Call commands one after the other in one process; gives what each said."""
    _make_file(cwd)
    command = [*prefix, sys.executable, "-c", _ONE_AFTER_THE_OTHER]
    surroundings = os.environ | dict(environment or {})
    done = subprocess.run(command, cwd=cwd, env=surroundings, input=json.dumps(asked).encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return [
        subprocess.CompletedProcess(each, status, bytes.fromhex(out), bytes.fromhex(err))
        for each, (status, out, err) in zip(asked, json.loads(done.stdout), strict=True)
    ]


def _make_file(folder: Path) -> None:
    if not os.path.lexists(folder / "file"):
        (folder / "file").write_bytes(b"x" * 8192)


def refused(done: subprocess.CompletedProcess[bytes], *words: bytes, status: int = 1) -> None:
    """A command has said what is wrong, with these words, and what to do; and has no traceback."""
    assert done.returncode == status, done.stderr.decode("utf-8", "replace")
    assert b"Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    said = next(place for place, line in enumerate(lines) if line.startswith(b"error: "))
    for word in words:
        assert word in lines[said], lines
    assert lines[said + 1].startswith(b"       "), lines
