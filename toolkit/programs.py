"""Programs of the system that fetch and unpack packages, run for so long at the most and dead afterwards, with their children."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from toolkit.errors import UnavailableError
from toolkit.filesystems import find_program

__all__ = ["NETWORK", "required_program", "run_limited"]

#: What to do where apt fails.
NETWORK = "Check the network, and that `apt-get update` works as root."
_APT = "Packages can be fetched on Debian and its kin alone, where apt and dpkg are."
_KMOD = "Run as root: apt-get install kmod."

_PAUSE_S = 0.1
#: Of what a program said that failed, the end is kept.
_SAID_BYTES = 65536


def run_limited(command: list[str], folder: Path, limit_s: float, watch: Callable[[], None] | None = None) -> str:
    """Run a program in a folder for so long at the most; gives what it wrote. It is dead when this ends, however it ends.

    Raises
    ------
    UnavailableError
        If there is no such program, it fails, or takes longer.
    """
    program, *words = command
    line = [required_program(program), *words]
    if guard := find_program("setpriv"):
        line = [guard, "--pdeathsig", "KILL", *line]  # also where this process is killed itself
    said = folder / f"{Path(program).name}.said"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    with said.open("wb") as output, _group(line, output.fileno(), folder, environment) as process:
        until = time.monotonic() + limit_s
        while process.poll() is None:
            if time.monotonic() > until:
                raise UnavailableError(f"{program} has not ended within {limit_s:.0f} s", NETWORK)
            if watch is not None:
                watch()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE_S)
    text = said.read_bytes()[-_SAID_BYTES if process.returncode else 0 :].decode("utf-8", "replace")
    if process.returncode != 0:
        remedy = NETWORK if program.startswith("apt") else "Try again; if it stays so, the packages there cannot be used."
        raise UnavailableError(f"{program} failed: {_reason(text)}", remedy)
    return text


@contextlib.contextmanager
def _group(line: list[str], output: int, folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children in a session of their own, which no Ctrl-C at the terminal reaches; they end with the body."""
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(said: str) -> str:
    """What apt or dpkg complained of, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    complaints = [line for line in lines if re.match(r"(E|Err|dpkg-deb|W):", line)]
    return "; ".join(dict.fromkeys((complaints or lines or ["it did not say why"])[-3:]))[:600]


def required_program(name: str) -> str:
    """The path of a program.

    Raises
    ------
    UnavailableError
        If it is missing.
    """
    found = find_program(name)
    if found is None:
        raise UnavailableError(f"There is no {name} here", _KMOD if name == "depmod" else _APT)
    return found
