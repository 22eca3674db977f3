"""The samples of a guest through qemu-guest-agent's file calls, without an agent of ours: slower, and with what files tell alone.

The guest's files are copied into a folder for a moment and read there by the very code that reads a machine's own
(:func:`toolkit.sensors.rng.read_rng_state`), so that one place says what they mean.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from toolkit.errors import GuestError
from toolkit.guests.qga import GuestAgent, RefusedError
from toolkit.markup import visible
from toolkit.sensors.kernel_log import KernelLog, syslog_records
from toolkit.sensors.rng import RngState, feeders_among, read_rng_state

__all__ = ["GuestIdentity", "GuestSample", "QgaGuest"]

_RANDOM = "proc/sys/kernel/random"
#: What is copied, and the most bytes of it. A file that is not there is left out, which tells the regimes apart.
_FILES = {
    **{
        f"{_RANDOM}/{name}": 100
        for name in ("poolsize", "entropy_avail", "read_wakeup_threshold", "urandom_min_reseed_secs", "boot_id")
    },
    "proc/lrng_type": 4096,
    "proc/cmdline": 16384,
    "proc/cpuinfo": 2**22,
    "proc/sys/kernel/osrelease": 300,
    "proc/sys/kernel/hostname": 300,
    **{f"sys/class/misc/hw_random/{name}": 4096 for name in ("rng_available", "rng_current", "rng_quality")},
    "sys/module/rng_core/parameters/current_quality": 100,
}
_CONFIGURATION_BYTES = 2**20
_LOG_BYTES = 2**21
_NAMES_BYTES = 2**20
#: A file of /sys that kernels with uevents have (kernel/ksysfs.c), and nobody hides.
_OF_SYSFS = "/sys/kernel/uevent_seqnum"

#: As in include/linux/uuid.h; a boot_id is written in small letters.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: A kernel's release that can be part of a file's name.
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}")
_UPTIME = re.compile(rb"(\d{1,10})\.(\d{2}) ")
_POOL = re.compile(rb"\d{1,9}")


@dataclass(frozen=True)
class GuestIdentity:
    """Which boot of which guest it is, and its random number generator.

    Attributes
    ----------
    boot_id, kernel, host_name : str
        As the guest says; ``boot_id`` is a UUID. The other two may hold anything and are at most 300 characters long.
    rng_state : dict
        Columns of the table ``rng_state``; what files do not tell is None.
    state : RngState
        All that its files say of its random number generator, of which ``rng_state`` is the part that a table has.
    no_hw_random : bool
        Its kernel was seen to have no hw_random at all: /sys is there, and that is missing in it, which is more than not shown.
    """

    boot_id: str
    kernel: str
    host_name: str
    rng_state: dict[str, object]
    state: RngState
    no_hw_random: bool = False


class GuestSample(NamedTuple):
    """One look at a guest's pool.

    Attributes
    ----------
    t_ns : int
        The guest's CLOCK_BOOTTIME, from /proc/uptime: in steps of 10 ms.
    utc_ns : int
        The guest's own clock, else the host's: ``utc_of`` says whose.
    utc_of : str
        ``guest`` or ``host``.
    entropy_avail_bits : int or None
        As in ``/proc/sys/kernel/random``.
    crng_ready : bool or None
        Known in the regime ``latched`` alone, where ``entropy_avail`` reaches the pool's size at that moment and never before.
    random_readable : None
        A file call cannot poll.
    """

    t_ns: int
    utc_ns: int
    utc_of: str
    entropy_avail_bits: int | None
    crng_ready: bool | None
    random_readable: None = None


class QgaGuest:
    """A guest that is sampled through its qemu-guest-agent. For one thread at a time.

    Parameters
    ----------
    agent : GuestAgent
        Its agent.
    close : callable, optional
        Gives back what the agent's commands go over.
    """

    def __init__(self, agent: GuestAgent, close: Callable[[], None] | None = None) -> None:
        self._agent = agent
        self._close = close
        self._latched_at: int | None = None

    def close(self) -> None:
        """Give back the way to the agent."""
        if self._close is not None:
            self._close()
            self._close = None

    def identity(self) -> GuestIdentity:
        """Ask which boot of which guest it is, and for its random number generator. Takes some twenty commands and a ``dmesg``.

        Raises
        ------
        GuestError
            If the agent does not answer, its file calls are blocked, or the boot_id is none.
        """
        with tempfile.TemporaryDirectory(prefix="virt-toolkit-guest-") as folder:
            root = Path(folder)
            for path, most in _FILES.items():
                self._copy(path, most, root)
            boot_id = _text(root / _RANDOM / "boot_id")
            if _UUID.fullmatch(boot_id) is None:
                raise GuestError(
                    f"what {visible(self._agent.name)} calls its boot_id is none: {visible(boot_id, 80)!r}",
                    "Its samples could not be told from those of another boot. Look at that file in the guest.",
                )
            kernel = _text(root / "proc/sys/kernel/osrelease")
            if _RELEASE.fullmatch(kernel) is not None:
                self._copy(f"boot/config-{kernel}", _CONFIGURATION_BYTES, root)
            state = read_rng_state(root, self._kernel_log())
            latched = state.regime == "latched"
            self._latched_at = state.poolsize_bits if latched else None
            columns = {**state.row(), "crng_ready": self._ready(state.entropy_avail_bits)}
            return GuestIdentity(
                boot_id,
                kernel,
                _text(root / "proc/sys/kernel/hostname"),
                columns,
                state,
                state.hwrng_available is None and self._has_no_hw_random(),
            )

    def look(self) -> GuestSample:
        """Look at the guest's pool. Call :meth:`identity` first: without it ``crng_ready`` is never known.

        Raises
        ------
        GuestError
            If the agent does not answer in time or refuses.
        """
        # Both in a row, so that the moment is that of the look as nearly as can be.
        uptime = self._agent.read_file("/proc/uptime", 200)
        pool = self._agent.read_file(f"/{_RANDOM}/entropy_avail", 100)
        utc_ns = self._agent.time_ns()
        match = _UPTIME.match(uptime)
        if match is None:
            raise GuestError(f"/proc/uptime of {visible(self._agent.name)} holds no time: {visible(uptime, 80)}")
        t_ns = int(match[1]) * 10**9 + int(match[2]) * 10**7
        avail = int(pool) if _POOL.fullmatch(pool.strip()) else None
        if utc_ns is None:
            return GuestSample(t_ns, time.time_ns(), "host", avail, self._ready(avail))
        return GuestSample(t_ns, utc_ns, "guest", avail, self._ready(avail))

    def _ready(self, entropy_avail_bits: int | None) -> bool | None:
        """Whether the CRNG is ready, from the pool: in drivers/char/random.c of 5.19 on, both become true in one place."""
        if self._latched_at is None or entropy_avail_bits is None:
            return None
        return entropy_avail_bits >= self._latched_at

    def feeders(self) -> tuple[str, ...] | None:
        """The user-space feeders that run in the guest; None where its agent may not run the ``cat`` that tells."""
        try:
            # A process that ends meanwhile makes cat fail, and takes no name away.
            ran = self._agent.run(["sh", "-c", "cat /proc/[0-9]*/comm"], most_bytes=_NAMES_BYTES)
        except GuestError:
            return None
        names = ran.out.decode("utf-8", "replace").split("\n")
        return feeders_among(names) if len(names) > 1 else None

    def _has_no_hw_random(self) -> bool:
        try:
            self._agent.read_file("/sys/class/misc/hw_random/rng_available", 4096)
        except RefusedError as error:
            return error.missing and self._agent.read_if_there(_OF_SYSFS, 100) is not None
        return False

    def _copy(self, path: str, most_bytes: int, root: Path) -> None:
        content = self._agent.read_if_there(f"/{path}", most_bytes)
        if content is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)

    def _kernel_log(self) -> KernelLog:
        try:
            ran = self._agent.run(["dmesg", "--raw"], most_bytes=_LOG_BYTES)
        except GuestError:
            return KernelLog("absent")
        return syslog_records(ran.out.decode("utf-8", "replace")) if ran.status == 0 else KernelLog("refused")


def _text(path: Path) -> str:
    """A line of a file that a guest wrote; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
