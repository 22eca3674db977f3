"""What a run is: its id, the machine and kernel it ran on, its settings and seed. One row of the table ``runs``."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit._version import __version__
from toolkit.signals import held_back
from toolkit.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "begin", "hostname", "storable"]

#: What the kernel itself calls a machine that nobody has named (UTS_NODENAME of include/linux/uts.h).
_NO_NAME = "(none)"

_VIRTUAL_VENDORS = {
    "QEMU": "qemu",
    "KVM": "kvm",
    "VMware": "vmware",
    "Microsoft Corporation": "hyper-v",
    "innotek GmbH": "virtualbox",
    "Xen": "xen",
    "Amazon EC2": "kvm",
    "Google": "kvm",
    "OpenStack": "kvm",
}


@dataclass(frozen=True)
class Run:
    """One run of a measurement on this machine.

    Attributes
    ----------
    run_id : str
        Sorts by time; unique without asking anyone.
    host : str
        The machine's name.
    boot_id : str
        The kernel's boot_id.
    started_utc : datetime
        When it began.
    command, settings, seed
        What was asked for, and the seed of every random choice.
    """

    run_id: str
    host: str
    boot_id: str
    started_utc: datetime
    command: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @property
    def common(self) -> dict[str, str | None]:
        """The columns that every table begins with, for a row about the host itself."""
        return {"run_id": self.run_id, "host": self.host, "guest": None, "boot_id": self.boot_id}

    @held_back()
    def frame(self, table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Rows of a table as its frame, with this run's common columns put in.

        Columns are those of ``toolkit.tables.TABLES[table]``; what a row leaves out is null.
        """
        import pandas as pd

        made = TABLES[table]
        records = [{**self.common, **row} for row in rows]

        def column(name: str, kind: str) -> pd.Series[Any]:
            values = [record.get(name) for record in records]
            return pd.Series([storable(value) if isinstance(value, str) else value for value in values], dtype=kind)

        return made.frame({name: column(name, kind) for name, kind in made.dtypes.items()})

    def row(self) -> pd.DataFrame:
        """The run as one row of ``runs``."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        described = {
            "started_utc": self.started_utc,
            "command": self.command,
            "settings_json": storable(json.dumps(dict(self.settings), sort_keys=True, default=str)),
            "seed": self.seed,
            "toolkit_version": __version__,
            "kernel": platform.release(),
            "cpu_model": cpu_model(),
            "cpu_count": os.cpu_count(),
            "memory_bytes": memory,
            "hypervisor": hypervisor(),
        }
        return self.frame("runs", [described])


def begin(command: str, settings: Mapping[str, Any] | None = None, seed: int | None = None) -> Run:
    """Begin a run on this machine.

    Parameters
    ----------
    command : str
        What was called, as its user would write it.
    settings : mapping, optional
        Its settings; kept as JSON.
    seed : int, optional
        The seed of its random choices.

    Examples
    --------
    >>> run = begin("toolkit watch --for 1s", {"for_s": 1.0})
    >>> list(run.common)
    ['run_id', 'host', 'guest', 'boot_id']
    """
    now = datetime.now(UTC)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    return Run(run_id, hostname(), boot_id, now, storable(command), dict(settings or {}), seed)


def hostname() -> str:
    """This machine's name, as the column ``host`` has it."""
    return storable(socket.gethostname()) or _NO_NAME


def storable(text: str) -> str:
    r"""Text that a table can hold: names of files and machines are bytes, and Python makes surrogates of those that are no UTF-8.

    Examples
    --------
    >>> import os
    >>> print(storable(os.fsdecode(b"caf\xe9")))
    caf\xe9
    """
    if text.isascii():
        return text
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")  # a surrogate that stands for no byte
    return raw.decode("utf-8", "backslashreplace")


def cpu_model(root: Path = Path("/")) -> str | None:
    """The processor as it names itself in cpuinfo, or None where it does not."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model", "Processor"):
            return value.strip()
    return None


def hypervisor(root: Path = Path("/")) -> str | None:
    """What this machine runs under: from sysfs, the firmware's vendor, else 'unknown' where the processor says it is virtual.

    None means that nothing says so: bare metal, or an architecture that does not tell.
    """
    xen = _text(root / "sys/hypervisor/type").strip()
    if xen:
        return xen
    vendor = _text(root / "sys/class/dmi/id/sys_vendor").strip()
    for name, kind in _VIRTUAL_VENDORS.items():
        if vendor.startswith(name):
            return kind
    flags = next((line for line in _text(root / "proc/cpuinfo").splitlines() if line.startswith("flags")), "")
    return "unknown" if "hypervisor" in flags.split() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
