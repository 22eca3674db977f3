"""A tiny guest as it recorded itself: its random number generator, its kernel log, its processor time. Nothing of it is trusted.

The files are laid out as a machine's root in a private folder, and read by the same sensors as every other machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.scratch_folder import ScratchFolder
from toolkit.sensors.rng import RngState, read_rng_state

__all__ = ["RecordedGuest", "busy_s", "recorded"]

_TREE = "tree/"
_AVAILABLE = "proc/sys/kernel/random/entropy_avail"
_NUMBER = re.compile(rb"\s*\d{1,9}\s*")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,99}")
# A record of /dev/kmsg that tiny_init.sh wrote: its priority is that of a program, not of the kernel.
# Fifteen digits are thirty years: in ns they still fit a column.
_NOTE = re.compile(r"\d+,\d+,(\d{1,15}),[^;]*;virt-toolkit: (.*)")
# What /proc/stat counts in (USER_HZ of the kernel, on x86); idle and iowait are its fields 4 and 5, guest time is in user time too.
_TICKS_PER_S = 100
_BUSY = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True)
class RecordedGuest:
    """What a guest's own files say; None is "it does not say".

    Attributes
    ----------
    boot_id, kernel : str or None
        Its boot_id, and its kernel as ``uname -r`` says it.
    state : RngState
        Its random number generator.
    notes_s : dict of str to float
        What its first process wrote into the kernel log: words, and when, in s since its boot.
    busy_s : float or None
        Processor time that was not idle, since its boot.
    """

    boot_id: str | None
    kernel: str | None
    state: RngState
    notes_s: dict[str, float]
    busy_s: float | None

    def state_row(self) -> dict[str, object]:
        """Columns of ``rng_state``. A recorded machine cannot be asked whether it is ready; the log of all of its boot tells."""
        row = self.state.row()
        return {**row, "crng_ready": self.state.crng_ready_s is not None} if self.state.kernel_log == "complete" else row


def recorded(files: Mapping[str, bytes]) -> RecordedGuest:
    """Read what ``record_machine`` of ``tiny_init.sh`` left.

    Parameters
    ----------
    files : mapping of str to bytes
        The result of a guest, as :meth:`toolkit.guests.tiny.TinyGuestRuns.result` gives it: its names are harmless.
    """
    with ScratchFolder() as root:
        for name, content in files.items():
            if name.startswith(_TREE) and _can_be(name.removeprefix(_TREE), content):
                _put(root / name.removeprefix(_TREE), content)
        state = read_rng_state(root)
    return RecordedGuest(
        _said(files, "proc/sys/kernel/random/boot_id", _UUID),
        _said(files, "proc/sys/kernel/osrelease", _RELEASE),
        state,
        _notes(files.get(f"{_TREE}dev/kmsg", b"")),
        busy_s(files.get(f"{_TREE}proc/stat", b"")),
    )


def busy_s(stat: bytes) -> float | None:
    """Processor time that was not idle, from the text of /proc/stat (proc(5)).

    Examples
    --------
    >>> busy_s(b"cpu  100 0 50 900 10 0 5 0 0 0")
    1.55
    """
    fields = stat.partition(b"\n")[0].split()[1:]
    if len(fields) <= max(_BUSY) or not all(field.isdigit() and len(field) < 19 for field in fields):
        return None
    return sum(int(fields[place]) for place in _BUSY) / _TICKS_PER_S


def _can_be(name: str, content: bytes) -> bool:
    """Whether a kernel can have said that: the one number that the sensors read without a doubt, since it is read so often."""
    return _NUMBER.fullmatch(content) is not None if name == _AVAILABLE else not name.startswith(f"{_AVAILABLE}/")


def _put(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        # A guest that names one thing as a file and as a folder says nothing with it.
        return


def _said(files: Mapping[str, bytes], path: str, shape: re.Pattern[str]) -> str | None:
    text = files.get(_TREE + path, b"").decode("utf-8", "replace").strip()
    return text if shape.fullmatch(text) else None


def _notes(log: bytes) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in log.decode("utf-8", "replace").splitlines():
        if match := _NOTE.fullmatch(line):
            found.setdefault(match[2], int(match[1]) / 1e6)
    return found
