"""The machine as a whole: how busy its processors are, the memory available, the power it draws."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Mapping, NamedTuple

__all__ = ["Energy", "SystemLook", "SystemSample", "busy_fraction", "power_watts", "read_energy"]

# The line "cpu" (Documentation/filesystems/proc.rst): user nice system idle iowait irq softirq steal guest guest_nice.
# guest and guest_nice are counted in user and nice already. Waiting for I/O is idle time. Stolen time is not: a guest's processor
# had work then, and the host gave it no time.
_COUNTED = 8
_IDLE, _IOWAIT = 3, 4

# A control type's zones are intel-rapl:0, intel-rapl:1; their parts intel-rapl:0:0, which are in them already. The zone psys has
# the packages in it, and intel-rapl-mmio:0 is the same package by another road (Documentation/power/powercap/powercap.rst).
_ZONE = re.compile(r"intel-rapl:\d+")


class SystemSample(NamedTuple):
    """One look at the machine. None is "cannot be told": at the first look, and what the machine does not show.

    Attributes
    ----------
    cpu_busy_fraction : float or None
        Share of all processors' time not idle since the look before. Stolen time counts as busy, waiting for I/O as idle.
    memory_available_bytes : int or None
        MemAvailable.
    power_watts : float or None
        Mean power of all processor packages since the look before.
    """

    cpu_busy_fraction: float | None
    memory_available_bytes: int | None
    power_watts: float | None


class Energy(NamedTuple):
    """A package's energy counter, in µJ, and the value at which it begins again."""

    energy_uj: int
    range_uj: int


class SystemLook:
    """Looks at the machine, each against the one before; it exists to remember that one.

    Parameters
    ----------
    root : Path
        Where proc and sys are.

    Examples
    --------
    >>> SystemLook()().cpu_busy_fraction is None
    True
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._times: tuple[int, ...] | None = None
        self._energy: Mapping[str, Energy] = {}
        self._looked_ns = 0

    def __call__(self) -> SystemSample:
        """Look once."""
        times, energy, now_ns = _cpu_times(self._root), read_energy(self._root), time.monotonic_ns()
        busy = None if times is None or self._times is None else busy_fraction(self._times, times)
        watts = power_watts(self._energy, energy, now_ns - self._looked_ns)
        self._times, self._energy, self._looked_ns = times, energy, now_ns
        return SystemSample(busy, _memory_available(self._root), watts)


def busy_fraction(before: tuple[int, ...], after: tuple[int, ...]) -> float | None:
    """The share of time not idle between two lines ``cpu`` of /proc/stat; None where no time has passed.

    A field that went backwards counts as not having moved: the kernel says that iowait may.

    Examples
    --------
    >>> busy_fraction((100, 0, 0, 100, 0, 0, 0, 0), (130, 0, 0, 160, 10, 0, 0, 0))
    0.3
    """
    passed = [max(later - earlier, 0) for earlier, later in zip(before[:_COUNTED], after[:_COUNTED])]
    total = sum(passed)
    return (total - passed[_IDLE] - passed[_IOWAIT]) / total if total else None


def power_watts(before: Mapping[str, Energy], after: Mapping[str, Energy], elapsed_ns: int) -> float | None:
    """Mean power between two looks at the packages' counters, each of which may have begun again once in between.

    None where there is no counter, or not the same ones at both looks.

    Examples
    --------
    >>> power_watts({"0": Energy(900, 1000)}, {"0": Energy(100, 1000)}, 1_000_000)
    0.2
    """
    if not after or before.keys() != after.keys() or elapsed_ns <= 0:
        return None
    used_uj = 0
    for zone, now in after.items():
        step = now.energy_uj - before[zone].energy_uj
        used_uj += step if step >= 0 else step + now.range_uj
    return used_uj * 1000 / elapsed_ns


def read_energy(root: Path = Path("/")) -> dict[str, Energy]:
    """The energy counters of all processor packages by zone; empty where the machine shows none, or not all to this user."""
    found = {}
    try:
        zones = sorted((root / "sys/class/powercap").iterdir())
        for zone in zones:
            if _ZONE.fullmatch(zone.name) and (zone / "name").read_text(encoding="ascii").startswith("package"):
                found[zone.name] = Energy(_whole(zone / "energy_uj"), _whole(zone / "max_energy_range_uj"))
    except (OSError, ValueError):  # one package that cannot be read makes the sum of the others no sum
        return {}
    return found


def _cpu_times(root: Path) -> tuple[int, ...] | None:
    try:
        with (root / "proc/stat").open(encoding="ascii") as lines:
            words = lines.readline().split()
    except OSError:
        return None
    # Fields came one after the other with the kernel's versions; what is missing at the end never passed.
    numbers = [int(word) for word in words[1 : _COUNTED + 1]]
    return tuple(numbers + [0] * (_COUNTED - len(numbers))) if words[:1] == ["cpu"] else None


def _memory_available(root: Path) -> int | None:
    try:
        with (root / "proc/meminfo").open(encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _whole(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
