"""Lab guests, watched: booted for it, our agent in each, their samples in the store as they come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.errors import UsageError
from toolkit.experiments.receive import receive
from toolkit.guests.lab import Accelerator, LabGuest, RngLimit, Unlimited, agent_command, boot
from toolkit.guests.receiver import Guest, Receiver, Status
from toolkit.progress import Progress, silent
from toolkit.runs import Run
from toolkit.store import Store

__all__ = ["Watched", "pair", "watch_lab"]


@dataclass(frozen=True)
class Watched:
    """What became of lab guests.

    Attributes
    ----------
    accelerator : Accelerator
        How they ran, and why so.
    channels : list of Status
        How each one's channel was at the end.
    first_sample_s : dict of str to float
        Of each guest, the seconds from the beginning of the boot to its first sample in the store. A guest without any is not in
        it.
    """

    accelerator: Accelerator
    channels: list[Status]
    first_sample_s: dict[str, float]


def pair() -> list[LabGuest]:
    """Two guests that differ in one thing: one has a virtio-rng, the other none. Neither has RDRAND, or trusts what booted it."""
    alike: dict[str, Any] = {
        "command": (),
        "cpu": "qemu64",
        "append": "random.trust_cpu=off random.trust_bootloader=off",
    }
    return [LabGuest(name="lab-virtio-rng", rng=Unlimited(), **alike), LabGuest(name="lab-no-rng", rng=None, **alike)]


def watch_lab(
    guests: Sequence[LabGuest],
    duration_s: float | None,
    interval_s: float,
    store: Store,
    run: Run,
    *,
    told: Callable[[list[Status]], None] | None = None,
    progress: Progress = silent,
    folder: Path | None = None,
) -> Watched:
    """Boot guests, run the agent in each, and receive from them; then they are gone.

    Parameters
    ----------
    guests : sequence of LabGuest
        Their command is the agent, whatever it was.
    duration_s : float or None
        How long, from when all of them have booted; None until Ctrl-C.
    interval_s : float
        Between two looks; a millisecond at least.
    store, run : Store, Run
        Where samples go, and the run that they belong to.
    told : callable, optional
        Called about every second with how each channel is.
    progress : Progress
        While they boot.
    folder : Path, optional
        Where their sockets and consoles are meanwhile.

    Raises
    ------
    UsageError
        If the interval is below a millisecond.
    UnavailableError, LabError
        If lab guests cannot be booted here, or one of these does not come up.
    StoreError
        If the store cannot be appended to.
    """
    if not 1e-3 <= interval_s <= 86_400:
        raise UsageError(
            f"guests cannot be watched every {interval_s} s", "Watch every millisecond at most, and once a day at least."
        )
    command = agent_command("--every-ms", repr(interval_s * 1000))
    began = time.monotonic()
    first: dict[str, float] = {}

    def stored(channels: list[Status]) -> list[Status]:
        for channel in channels:
            if channel.total.records or channel.records_per_s:
                first.setdefault(channel.guest, time.monotonic() - began)
        return channels

    def seen(channels: list[Status]) -> None:
        stored(channels)
        if told is not None:
            told(channels)

    with boot([replace(guest, command=command) for guest in guests], folder, progress=progress) as booted:
        receiver = Receiver(store, run)
        for guest in booted:
            receiver.add(Guest(guest.name, guest.sockets[0], host_says(guest.spec.rng)))
        with contextlib.suppress(KeyboardInterrupt):  # one that came before the loop heard signals itself
            receive(receiver, duration_s, seen)
        # Some were perhaps stored at the very end.
        return Watched(booted[0].accelerator, stored(receiver.status()), first)


def host_says(rng: Unlimited | RngLimit | None) -> dict[str, Any]:
    """Columns of ``rng_state`` that only the host knows: what feeds the guest's virtio-rng, and its limit."""
    if rng is None:
        return {}
    said: dict[str, Any] = {"virtio_rng_backend": rng.backend}
    if isinstance(rng, RngLimit):
        said.update(virtio_rng_max_bytes=rng.max_bytes, virtio_rng_period_ms=rng.period_ms)
    return said
