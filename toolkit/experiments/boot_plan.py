"""Which guests are booted, how often, in which order: a plan in TOML, and what it means on this machine.

A plan names values, an axis each; a block is every combination of its own, and the blocks follow one another. Boots are ordered as
allocations are (:mod:`toolkit.experiments.plan`): in rounds of one boot a cell, each shuffled by itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import UsageError
from toolkit.experiments.plan import several
from toolkit.guests.devices import BACKENDS, RngLimit, Unlimited, check_rng
from toolkit.lab_feeders import FEEDERS
from toolkit.markup import visible
from toolkit.units import parse_bytes, parse_duration_s

__all__ = ["ASKED", "RDRAND", "REMEDIES", "Boot", "BootPlan", "Cell", "parse_rng", "read_plan"]

#: What early user space asks for.
ASKED = ("nothing", "getrandom", "urandom")
#: Whether the guest has RDRAND, and credits it.
RDRAND = ("trusted", "untrusted", "absent")
#: What is done against starvation. Those that feed the pool from user space are programs of Debian's.
REMEDIES = ("none", "virtio-rng", "rdrand", *FEEDERS)

_MOST_BYTES = 1 << 20
_MOST_BOOTS = 10_000
# Of a boot: longer than anyone waits, and what a shell in the guest can count to.
_MOST_S = 86_400.0
_LIMIT = re.compile(r"([^/]+)/([^/]+)")
_AXES = {"kernel": "newest", "rdrand": "absent", "rng": "none", "backend": "/dev/urandom", "asked": "getrandom", "remedy": "none"}


@dataclass(frozen=True, order=True)
class Cell:
    """One configuration.

    Attributes
    ----------
    kernel : str
        Its version, as ``uname -r`` says it; in a plan also a beginning of one, ``newest``, ``oldest`` or ``all``.
    rdrand : str
        One of :data:`RDRAND`.
    rng : str
        ``none``, ``unlimited`` or a limit such as ``1KiB/1s``.
    backend : str
        What feeds its virtio-rng; empty where there is none.
    asked : str
        One of :data:`ASKED`.
    remedy : str
        One of :data:`REMEDIES`; another than ``none`` decides over ``rdrand`` and ``rng``.
    """

    kernel: str
    rdrand: str
    rng: str
    backend: str
    asked: str
    remedy: str

    @property
    def device(self) -> Unlimited | RngLimit | None:
        """Its virtio-rng."""
        return parse_rng(self.rng, self.backend or "random")

    def __str__(self) -> str:
        device = self.device
        if device is None:
            rng = "no virtio-rng"
        else:
            limit = f"{device.max_bytes} B/{device.period_ms} ms" if isinstance(device, RngLimit) else "unlimited"
            rng = f"virtio-rng {limit} from {device.backend}"
        feeder = f", {self.remedy}" if self.remedy in FEEDERS else ""
        return f"kernel {self.kernel}, RDRAND {self.rdrand}, {rng}{feeder}, {self.asked} asked"


class Boot(NamedTuple):
    """One boot that is to be made."""

    cell: Cell
    repeat: int
    position: int


@dataclass(frozen=True)
class BootPlan:
    """What a matrix of boots is.

    Attributes
    ----------
    name : str
        Its name.
    cells : tuple of Cell
        Its configurations, with kernels by their whole version.
    boots : int
        How often each is booted.
    budget_s : float
        How long after its boot a guest is given to become ready.
    watch_s : float
        When costs are seen, since its boot, ready or not; 0 for when it is ready, or its budget has passed.
    """

    name: str
    cells: tuple[Cell, ...]
    boots: int
    budget_s: float
    watch_s: float

    @property
    def sha256(self) -> str:
        """Of all that decides what is measured; the name does not."""
        what = {
            "cells": [asdict(cell) for cell in self.cells],
            "boots": self.boots,
            "budget_s": self.budget_s,
            "watch_s": self.watch_s,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def order(self, seed: int) -> list[Boot]:
        """All boots in their random order: the same for the same seed, everywhere."""
        shuffled = random.Random(seed)  # noqa: S311 - an order, not a secret
        found: list[Boot] = []
        for repeat in range(self.boots):
            round_of_all = list(self.cells)
            shuffled.shuffle(round_of_all)
            found += [Boot(cell, repeat, len(found) + place) for place, cell in enumerate(round_of_all)]
        return found


def parse_rng(text: str, backend: str) -> Unlimited | RngLimit | None:
    """A virtio-rng from words.

    Raises
    ------
    UsageError
        If they mean none.

    Examples
    --------
    >>> parse_rng("1KiB/1s", "/dev/urandom")
    RngLimit(max_bytes=1024, period_ms=1000, backend='/dev/urandom')
    """
    if text == "none":
        return None
    found = next((each for each in BACKENDS if each == backend), None)
    if found is None:
        raise UsageError(f"{visible(backend)!r} is no backend of virtio-rng here", f"Give one of: {', '.join(BACKENDS)}.")
    if text == "unlimited":
        return Unlimited(backend=found)
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise UsageError(f"{visible(text)!r} is no limit of a virtio-rng", "Give none, unlimited, or one such as 1KiB/1s or 4/4s.")
    period_ms = min(parse_duration_s(match[2]), 1e300) * 1000
    # Of what is no whole number of them in binary, such as 1.1 s, less than a millionth is off.
    if period_ms >= 1 and abs(period_ms - round(period_ms)) > 1e-6 * period_ms:
        raise UsageError(f"QEMU counts a period in whole ms, and {visible(match[2])} is not", "Give one such as 100ms or 4s.")
    limit = RngLimit(max_bytes=parse_bytes(match[1]), period_ms=round(period_ms) if period_ms >= 1 else 0, backend=found)
    check_rng(limit)
    return limit


#: The versions that a plan's word for a kernel means.
Versions = Callable[[str], Sequence[str]]


def read_plan(path: Path, versions: Versions = lambda word: [word]) -> BootPlan:
    """Read a plan.

    Parameters
    ----------
    path : Path
        A file in TOML: ``name``, ``boots``, ``budget``, ``watch``, and blocks ``[[cells]]``, each with lists of values for the axes
        ``kernel``, ``rdrand``, ``rng``, ``backend``, ``asked``, ``remedy``; an axis that a block leaves out has one value.
    versions : callable
        Gives the versions that a word for a kernel means; by default a word stands for itself.

    Raises
    ------
    UsageError
        If the file cannot be read, or anything in it cannot be meant; names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _MOST_BYTES:
            raise UsageError(f"{str(path)!r} is no plan: it is too long", "Give a file of less than a megabyte.")
        said = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"the plan {str(path)!r} cannot be read: {error.strerror}", "Give a file in TOML.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, lists in lists without end
        raise UsageError(f"{str(path)!r} is no plan in TOML: {visible(str(error), 200)}", "See the plan in data/plans.") from error
    return plan_of(said, visible(str(said.get("name", path.stem)), 100), versions)


def plan_of(said: Mapping[str, Any], name: str, versions: Versions) -> BootPlan:
    """A plan from what a file in TOML says."""
    _known(said, ("name", "boots", "budget", "watch", "cells"), "a plan")
    boots = said.get("boots", 5)
    if not isinstance(boots, int) or isinstance(boots, bool) or not 1 <= boots <= _MOST_BOOTS:
        raise UsageError(f"a plan has no cell booted {visible(str(boots))!r} times", f"Give boots as 1 to {_MOST_BOOTS}.")
    blocks = said.get("cells")
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, dict) for block in blocks):
        raise UsageError(f"the plan {name!r} has no block [[cells]]", 'Give at least one, such as [[cells]] and rng = ["none"].')
    # Two that mean the same (1KiB/1s and 1024/1s) are one: what the store has is told by its words.
    cells: dict[tuple[str, str], Cell] = {}
    for cell in (cell for block in blocks for cell in _block(block, versions)):
        cells.setdefault((str(cell), cell.remedy), cell)
    budget_s = _seconds("budget", said.get("budget", "90s"))
    watch_s = _seconds("watch", said["watch"]) if "watch" in said else 0.0
    plan = BootPlan(name, tuple(cells.values()), boots, budget_s, watch_s)
    if len(plan.cells) * boots > _MOST_BOOTS:
        raise UsageError(f"the plan {name!r} is {len(plan.cells) * boots:,} boots", f"Give one of {_MOST_BOOTS:,} at most.")
    return plan


def _block(block: Mapping[str, Any], versions: Versions) -> list[Cell]:
    _known(block, _AXES, "a block of cells")
    axes = {axis: [default] for axis, default in _AXES.items()}
    for axis, given in block.items():
        values = [given] if isinstance(given, str) else given
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UsageError(f"{axis} in a plan is no list of words", f'Give for example: {axis} = ["{_AXES[axis]}"]')
        axes[axis] = several(values, axis)
    for axis, allowed in (("rdrand", RDRAND), ("backend", tuple(BACKENDS)), ("asked", ASKED), ("remedy", REMEDIES)):
        for value in axes[axis]:
            if value not in allowed:
                raise UsageError(f"{visible(value)!r} is no {axis} of a plan", f"Give some of: {', '.join(allowed)}.")
    axes["kernel"] = [version for word in axes["kernel"] for version in versions(word)]
    many = math.prod(map(len, axes.values()))
    if many > _MOST_BOOTS:
        raise UsageError(f"a block of a plan is {many:,} configurations", f"Give one of {_MOST_BOOTS:,} boots at most.")
    return [_meant(*values) for values in itertools.product(*axes.values())]


def _meant(kernel: str, rdrand: str, rng: str, backend: str, asked: str, remedy: str) -> Cell:
    """A cell as it will be: a remedy decides over the device and the processor, and without a device nothing feeds it."""
    if remedy == "virtio-rng" or remedy == "rngd":
        rng = "unlimited" if rng == "none" else rng
    elif remedy == "rdrand":
        rdrand = "trusted"
    device = parse_rng(rng, backend)
    return Cell(kernel, rdrand, rng, device.backend if device is not None else "", asked, remedy)


def _known(said: Mapping[str, Any], allowed: Sequence[str] | Mapping[str, str], what: str) -> None:
    for name in said:
        if name not in allowed:
            raise UsageError(f"{visible(name)!r} is nothing that {what} says", f"It says some of: {', '.join(allowed)}.")


def _seconds(name: str, given: object) -> float:
    if not isinstance(given, str):
        raise UsageError(f"{name} in a plan is no time", f'Give for example: {name} = "90s"')
    seconds = parse_duration_s(given)
    if seconds > _MOST_S:
        raise UsageError(f"{name} in a plan is longer than a day: {visible(given, 100)!r}", f'Give for example: {name} = "90s"')
    return seconds
