"""A guest that reads its virtio-rng while it is moved to another QEMU, whose device has another limit: what came, and when."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.experiments.made_guests import device_row, read_row, script_of
from toolkit.experiments.rates import named, reading_for
from toolkit.guests.devices import RngLimit, Unlimited, check_rng
from toolkit.guests.moving import Moved, move
from toolkit.guests.reader import program, readings
from toolkit.guests.recorded import recorded
from toolkit.guests.tiny import TinyGuest, TinyGuestRuns, boot_tiny
from toolkit.lab_kernels import GuestKernel
from toolkit.progress import Progress, part, silent
from toolkit.runs import Run
from toolkit.sensors.source_reader import GETRANDOM
from toolkit.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MovedReads", "check_move", "move_while_reading"]

_SCRIPT = Path(__file__).with_name("migration.sh")
_SOURCE = "/dev/hwrng"
#: So that the source still gives while the guest's memory is sent: a small guest is on its way for some seconds.
_BYTES_PER_SECOND = 32 << 20
# Some 80 MB are to be sent within that.
_MOVE_S = 120.0
_LEAST_BYTES_PER_SECOND = 1 << 20
_LONGEST_HELD_S = 30.0
_BOOT_S = 120.0
_SLACK_S = 60.0
_LONGEST_S = 3600.0
_LOOK_S = 0.2
_POLL_S = 0.001
_MOST_READS = 500_000
# What a guest reads a second at most without KVM, 64 bytes at a time; with it, more, which is then too much.
_READS_PER_S = 20_000
# The kernel's own draws come twice on either side, and matter if they are more of what it gives than this.
_DISTURBED_SHARE = 0.03
_DRAWN_BYTES = 128


@dataclass(frozen=True)
class MovedReads:
    """A move, as it was stored.

    Attributes
    ----------
    moves, source_reads, rng_state : DataFrame
        Rows of those tables. The limit of the device changes in the boot, so ``rng_state`` leaves it out, and ``moves`` has both.
    """

    moves: pd.DataFrame
    source_reads: pd.DataFrame
    rng_state: pd.DataFrame


def move_while_reading(
    source: Unlimited | RngLimit,
    destination: Unlimited | RngLimit,
    store: Store,
    run: Run,
    *,
    before_s: float | None = None,
    after_s: float | None = None,
    bytes_per_second: int = _BYTES_PER_SECOND,
    held_s: float = 0.0,
    kernel: GuestKernel | None = None,
    progress: Progress = silent,
    folder: Path | None = None,
) -> MovedReads:
    """Boot a guest that reads its /dev/hwrng, move it to another QEMU, let it read on, and fetch what it noted from there.

    Parameters
    ----------
    source, destination : Unlimited or RngLimit
        Its virtio-rng before and after.
    store, run : Store, Run
        Where ``moves``, ``source_reads`` and ``rng_state`` go, and the run that they belong to.
    before_s, after_s : float, optional
        How long is read on either side; by default at least five periods and a half, and 2 s.
    bytes_per_second : int
        How fast its memory is sent; some 80 MB for a guest of a kernel and a few programs.
    held_s : float
        How long the host keeps the guest stopped, as one does that hands over disks and networks meanwhile; by default only as
        long as the last of its memory takes.
    kernel : GuestKernel, optional
        What it boots; the newest that is installed or was fetched by default.
    progress : Progress
        Told of the seconds that have gone, of those that all will take.
    folder : Path, optional
        Where the guest's files are meanwhile.

    Raises
    ------
    LabError
        If a guest fails, or cannot be moved in time.
    UsageError
        If a limit or a time cannot be meant.

    Examples
    --------
    >>> slow, fast = RngLimit(max_bytes=1024, period_ms=1000), RngLimit(max_bytes=4096, period_ms=1000)
    >>> move_while_reading(slow, fast, store, run).moves["downtime_ms"]  # doctest: +SKIP
    0    17
    """
    sides = check_move(source, destination, before_s, after_s, bytes_per_second, held_s)
    spec, most_reads = _guest("move", source, destination, sides, kernel)
    waiting, _ = _guest("to", destination, source, sides, kernel, incoming=True)
    boot_s, move_s = _boot_s(source, destination, sides), 4.0 + held_s
    ends_s = [boot_s, boot_s + sides[0], boot_s + sides[0] + move_s, boot_s + sum(sides) + move_s]
    progress(0, ends_s[-1], f"booting a guest with a virtio-rng {named(source)}")
    with boot_tiny([spec, waiting], folder) as (here, there):
        begun_at_s = _heard(here, "reading", boot_s + _BOOT_S)
        _watch(here, sides[0], part(progress, ends_s[0], ends_s[1], ends_s[-1]), f"reading a virtio-rng {named(source)}")
        moved = move(
            here,
            there,
            bytes_per_second=bytes_per_second,
            held_s=held_s,
            timeout_s=_MOVE_S,
            progress=part(progress, ends_s[1], ends_s[2], ends_s[-1]),
        )
        there.tell("moved", _SLACK_S)
        arrived_at_s = _heard(there, "moved", _SLACK_S)
        _watch(there, sides[1], part(progress, ends_s[2], ends_s[3], ends_s[-1]), f"reading a virtio-rng {named(destination)}")
        there.tell("end", _SLACK_S)
        files = there.result(_SLACK_S)
        calls = readings(files.get("reads", b""))
        if len(calls) >= most_reads:
            raise there.failed(f"read more than {most_reads} times, which is all that it can note; let it read for a shorter time")
        ended = readings(files.get("clock.end", b""))
        row = _row(moved, files, begun_at_s, arrived_at_s)
        if row is None or not ended or not any(call.read_bytes for call in calls):
            raise there.failed("did not note its clock and its reads")
    said, end_ns = recorded(files), ended[0].called_ns
    common = {"guest": spec.name, "boot_id": said.boot_id or str(uuid.uuid4())}
    sides_row = {**_side("source", source), **_side("destination", destination)}
    frames = {
        "moves": run.frame("moves", [{**row, **sides_row, **common}]),
        "source_reads": run.frame(
            "source_reads",
            [{**read_row(call, end_ns), "source": _SOURCE, "block_bytes": _block(source, destination), **common} for call in calls],
        ),
        "rng_state": run.frame("rng_state", [{**said.state_row(), **common}]),
    }
    for table, frame in frames.items():
        store.append(table, frame)
    progress(ends_s[-1], ends_s[-1], "moved")
    return MovedReads(**frames)


def check_move(
    source: Unlimited | RngLimit,
    destination: Unlimited | RngLimit,
    before_s: float | None = None,
    after_s: float | None = None,
    bytes_per_second: int = _BYTES_PER_SECOND,
    held_s: float = 0.0,
) -> tuple[float, float]:
    """Refuse what cannot be meant by :func:`move_while_reading`; gives how long is read on either side, in s.

    Raises
    ------
    UsageError
        Names what can be given.
    """
    if bytes_per_second < _LEAST_BYTES_PER_SECOND or not 0 <= held_s <= _LONGEST_HELD_S:
        raise UsageError(
            f"A guest is not moved at {bytes_per_second} B/s, held for {held_s:g} s",
            f"Give at least {_LEAST_BYTES_PER_SECOND} B/s, and at most {_LONGEST_HELD_S:g} s.",
        )
    for device in (source, destination):
        check_rng(device)
    return (_watch_s(source, before_s), _watch_s(destination, after_s))


def _watch_s(device: Unlimited | RngLimit, wanted_s: float | None) -> float:
    found = reading_for(device).watch_s if wanted_s is None else wanted_s
    if not 0.5 <= found <= _LONGEST_S:
        raise UsageError(f"Nothing is seen of a move by reading for {found:g} s", "Give 500ms to an hour.")
    return found


def _rate(device: Unlimited | RngLimit) -> float:
    return device.max_bytes / device.period_ms * 1000 if isinstance(device, RngLimit) else math.inf


def _polled(*devices: Unlimited | RngLimit) -> bool:
    return any(reading_for(device).polled for device in devices)


def _block(*devices: Unlimited | RngLimit) -> int:
    return min(reading_for(device).block_bytes for device in devices)


def _quiet(device: Unlimited | RngLimit, watch_s: float) -> bool:
    """Whether what the kernel itself draws would show in what comes."""
    return _DISTURBED_SHARE * _rate(device) * watch_s < _DRAWN_BYTES


def _quiet_from_s(one: Unlimited | RngLimit, other: Unlimited | RngLimit, sides: tuple[float, float]) -> int | None:
    """From when on the kernel's own reader sleeps longer than all takes; the devices of ``sides`` in either order."""
    if any(_quiet(device, min(sides)) for device in (one, other)):
        return math.ceil(2 * (sum(sides) + 5)) + 2
    return None


def _boot_s(one: Unlimited | RngLimit, other: Unlimited | RngLimit, sides: tuple[float, float]) -> float:
    return 8.0 + (_quiet_from_s(one, other, sides) or 0)


def _guest(
    name: str,
    device: Unlimited | RngLimit,
    other: Unlimited | RngLimit,
    sides: tuple[float, float],
    kernel: GuestKernel | None,
    *,
    incoming: bool = False,
) -> tuple[TinyGuest, int]:
    """The guest, or the QEMU that it moves to, and how many reads it can note."""
    budget_s = sum(sides) + _MOVE_S
    block = _block(device, other)
    polled = _polled(device, other)
    per_s = 0.0
    for each in (device, other):
        bursts_per_s = 1000 / each.period_ms if isinstance(each, RngLimit) else 0.0
        per_s = max(per_s, _READS_PER_S if math.isinf(_rate(each)) else (math.ceil(_rate(each) / block) + 2 * bursts_per_s) * 2)
    # QEMU 7.2 gives without limit for the rest of the first period after a move, where two requests exceed the quota: docs/lab.md.
    unlimited_s = sum(each.period_ms for each in (device, other) if isinstance(each, RngLimit)) / 1000
    most_reads = min(_MOST_READS, math.ceil(per_s * budget_s + _READS_PER_S * unlimited_s) + 100)
    # What is faster than the pauses of a reader that asks again and again is asked without one.
    pause_s = None if not polled else _POLL_S if all(reading_for(each).polled for each in (device, other)) else 0.0
    quiet_from_s = _quiet_from_s(device, other, sides)
    settings = {
        "records": str(most_reads),
        "limit_s": str(math.ceil(budget_s + _SLACK_S)),
        "quiet_from_s": "" if quiet_from_s is None else str(quiet_from_s),
    }
    spec = TinyGuest(
        name=name,
        script=script_of(_SCRIPT, settings),
        kernel=kernel,
        rng=device,
        append="random.trust_cpu=on",
        files={
            "lab/read": program(_SOURCE, block, budget_s, most_reads, pause_s=pause_s),
            "lab/clock": program(GETRANDOM, 1, 0.0, 1),
        },
        incoming=incoming,
    )
    return spec, most_reads


def _heard(guest: TinyGuestRuns, wanted: str, timeout_s: float) -> float:
    """Wait for a word; gives when it came, by the clock that QEMU stamps its events with."""
    guest.hear(wanted, timeout_s)
    return time.time()


def _watch(guest: TinyGuestRuns, seconds: float, progress: Progress, words: str) -> None:
    begun = time.monotonic()
    while (gone := time.monotonic() - begun) < seconds:
        progress(gone, seconds, words)
        if not guest.alive():
            raise guest.failed("ended while it read")
        time.sleep(min(_LOOK_S, seconds - gone))


def _row(moved: Moved, files: dict[str, bytes], begun_at_s: float, arrived_at_s: float) -> dict[str, Any] | None:
    """The move by the guest's clock: it noted that clock before and after, and the host heard of it some ms later."""
    clocks = [readings(files.get(f"clock.{word}", b"")) for word in ("reading", "moved")]
    if not all(clocks):
        return None
    before_ns, after_ns = (clock[0].called_ns for clock in clocks)
    return {
        "t_ns": before_ns + _ns(moved.stopped_at_s - begun_at_s),
        "begun_t_ns": before_ns + _ns(moved.begun_at_s - begun_at_s),
        "resumed_t_ns": after_ns - _ns(arrived_at_s - moved.resumed_at_s),
        "stopped_ms": (moved.resumed_at_s - moved.stopped_at_s) * 1000,
        "downtime_ms": moved.downtime_ms,
        "total_ms": moved.total_ms,
        "sent_bytes": moved.sent_bytes,
        "kernel_drew": {b"drew": True, b"asleep": False}.get(files.get("kernel", b"").strip()),
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _side(name: str, device: Unlimited | RngLimit) -> dict[str, Any]:
    return {column.replace("virtio_rng", name): value for column, value in device_row(device).items()}
