"""Moves a running guest from its QEMU to another one of this machine, over a socket in their private folder.

What a guest does meanwhile, and what is measured, is :mod:`toolkit.experiments.migration`'s.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from toolkit.errors import LabError
from toolkit.guests.qmp import Monitor
from toolkit.guests.tiny import TinyGuestRuns
from toolkit.markup import visible
from toolkit.progress import Progress, silent

__all__ = ["Moved", "move"]

_POLL_S = 0.05
# From the end of the transfer until the other QEMU runs the guest, or from the end of a move until this one does.
_RESUME_S = 30.0
_MOST_COUNT = 2**62


@dataclass(frozen=True)
class Moved:
    """How a guest was moved; times are of the host's clock, in s since 1970.

    Attributes
    ----------
    begun_at_s : float
        When the source was told to.
    stopped_at_s, resumed_at_s : float
        When the source stopped the guest, and when the destination let it go on.
    downtime_ms, total_ms : int or None
        As QEMU says it: how long the guest stood still, and how long all took. None where it does not say.
    sent_bytes : int or None
        Of the guest's memory.
    """

    begun_at_s: float
    stopped_at_s: float
    resumed_at_s: float
    downtime_ms: int | None
    total_ms: int | None
    sent_bytes: int | None


def move(
    source: TinyGuestRuns,
    destination: TinyGuestRuns,
    *,
    bytes_per_second: int,
    held_s: float = 0.0,
    timeout_s: float,
    progress: Progress = silent,
) -> Moved:
    """Move a guest; it runs on at its destination when this returns.

    Parameters
    ----------
    source : TinyGuestRuns
        The guest.
    destination : TinyGuestRuns
        A QEMU with the same devices that waits for one (``TinyGuest.incoming``).
    bytes_per_second : int
        How fast its memory may be sent.
    held_s : float
        How long it is kept stopped before its last memory is sent, as hosts do that hand over disks and networks meanwhile.
    timeout_s : float
        How long all may take; a move that takes longer is called off, and the guest stays where it is.
    progress : Progress
        Told of the share of its memory that has been sent.

    Raises
    ------
    LabError
        If QEMU refuses, or it does not arrive in time; with the reason that QEMU gives.
    """
    # The folder is private, and its path has room for a name as long as this one.
    line = f"unix:{source.qmp.with_suffix('.to')}"
    with Monitor(source.qmp, ["STOP"]) as here, Monitor(destination.qmp, ["RESUME"]) as there:
        there.execute("migrate-incoming", uri=line)
        here.execute("migrate-set-parameters", max_bandwidth=bytes_per_second)
        if held_s > 0:
            holds = {"capability": "pause-before-switchover", "state": True}
            here.execute("migrate-set-capabilities", capabilities=[holds])
        begun_at_s = time.time()
        here.execute("migrate", uri=line)
        told = _sent(source, here, held_s, time.monotonic() + timeout_s, progress)
        try:
            resumed_at_s = _resumed(destination, there)
        except LabError:
            # All of it was sent, and who took it is gone: then the guest goes on where it was, and nowhere twice.
            if not destination.alive():
                here.execute("cont")
            raise
        stopped = here.events("STOP")
    if not stopped or not begun_at_s <= stopped[-1].at_s <= resumed_at_s:
        raise source.failed("was moved, and QEMU does not say when it was stopped")
    memory = told.get("ram")
    sent_bytes = _count(memory.get("transferred")) if isinstance(memory, dict) else None
    return Moved(
        begun_at_s, stopped[-1].at_s, resumed_at_s, _count(told.get("downtime")), _count(told.get("total-time")), sent_bytes
    )


def _sent(source: TinyGuestRuns, here: Monitor, held_s: float, deadline: float, progress: Progress) -> dict[str, Any]:
    """Wait until all of it has been sent; gives what QEMU says of that."""
    held_until: float | None = None
    share = 0.0
    while True:
        told = here.execute("query-migrate")
        told = told if isinstance(told, dict) else {}
        status = told.get("status")
        if status == "completed":
            return told
        if status in ("failed", "cancelled"):
            raise source.failed(f"cannot be moved: {visible(told.get('error-desc', 'QEMU does not say why'))}")
        if status == "pre-switchover":
            held_until = held_until or time.monotonic() + held_s
            if time.monotonic() >= held_until:
                here.execute("migrate-continue", state="pre-switchover")
        if time.monotonic() > deadline:
            _call_off(here)
            raise source.failed("was not moved in time; it was called off")
        memory = told.get("ram")
        if isinstance(memory, dict):
            total, left = _count(memory.get("total")), _count(memory.get("remaining"))
            if total and left is not None:
                # What the guest has written meanwhile is sent once more: what is left may grow.
                share = max(share, 1 - left / total)
                progress(share, 1.0, "moving the guest")
        time.sleep(_POLL_S)


def _call_off(here: Monitor) -> None:
    """Cancel, and wait until QEMU has: then the guest runs where it was."""
    here.execute("migrate_cancel")
    deadline = time.monotonic() + _RESUME_S
    while time.monotonic() < deadline:
        told = here.execute("query-migrate")
        if isinstance(told, dict) and told.get("status") != "cancelling":
            return
        time.sleep(_POLL_S)


def _resumed(destination: TinyGuestRuns, there: Monitor) -> float:
    deadline = time.monotonic() + _RESUME_S
    while not (resumed := there.events("RESUME")):
        if not destination.alive() or time.monotonic() > deadline:
            raise destination.failed("did not go on with the guest that was moved to it")
        time.sleep(_POLL_S)
    return resumed[-1].at_s


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNT else None
