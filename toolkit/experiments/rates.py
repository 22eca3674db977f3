"""How fast a virtio-rng gives under a limit: guests with one limit each read /dev/hwrng, and note when which bytes came."""

from __future__ import annotations

import math
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import LabError, NotMeasuredWarning, UnavailableError, UsageError
from toolkit.experiments.made_guests import check_backend, device_row, read_row, script_of
from toolkit.guests.devices import RngLimit, Unlimited
from toolkit.guests.reader import program, readings
from toolkit.guests.recorded import recorded
from toolkit.guests.short_answers import REQUEST_BYTES, STALLS, behind, fits, mislays, next_fitting
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.lab_kernels import GuestKernel, find_kernels
from toolkit.progress import Progress, part, silent
from toolkit.runs import Run
from toolkit.scratch import LeftOut
from toolkit.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RateReading", "check_rates", "measure_rates", "reading_for"]

_SCRIPT = Path(__file__).with_name("rates.sh")
_SOURCE = "/dev/hwrng"
_PERIODS = 5
_LEAST_S = 2.0
_MOST_READS = 500_000
# Below this a driver of today, which waits for 64 bytes, would hide when they came: it is asked without waiting.
_POLLED_BELOW_BYTES_PER_S = 20_000
_POLL_S = 0.001
_MOST_BLOCK_BYTES = 4096
_READS_A_BURST = 24
# What the kernel's own draws may take of all before they matter.
_DISTURBED_SHARE = 0.002
_SLACK_S = 150.0
# For one limit: longer than anyone waits for a figure.
_LONGEST_S = 3600.0


@dataclass(frozen=True)
class RateReading:
    """How one limit is read: the budget comes from the limit, so that a slow one cannot hang it.

    Attributes
    ----------
    watch_s : float
        How long is read: five periods and a half at least, from the first byte on.
    block_bytes : int
        Bytes asked for at once.
    polled : bool
        Whether the source is asked without waiting.
    quiet : bool
        Whether the kernel's own reader of the source must be asleep meanwhile.
    most_reads : int
        How many reads that can be.
    """

    watch_s: float
    block_bytes: int
    polled: bool
    quiet: bool
    most_reads: int


def reading_for(rng: Unlimited | RngLimit, periods: int = _PERIODS) -> RateReading:
    """How to read a source with this limit.

    Raises
    ------
    UsageError
        If there are not three periods to be seen.

    Examples
    --------
    >>> reading_for(RngLimit(max_bytes=16, period_ms=1000))
    RateReading(watch_s=6.5, block_bytes=64, polled=True, quiet=True, most_reads=17)
    """
    if periods < 3:
        raise UsageError(f"A rate is not seen in {periods} periods", "Give three or more.")
    if isinstance(rng, Unlimited):
        return RateReading(_LEAST_S, _MOST_BLOCK_BYTES, False, False, _MOST_READS)
    period_s = rng.period_ms / 1000
    # One more than asked for: the first burst and the last bound them, and the device may just have begun a period.
    watch_s = max((periods + 1.5) * period_s, _LEAST_S)
    bytes_per_s = rng.max_bytes / period_s
    polled = bytes_per_s < _POLLED_BELOW_BYTES_PER_S
    block = REQUEST_BYTES if polled else _block(rng.max_bytes)
    expected = bytes_per_s * watch_s
    bursts = watch_s / period_s + 2
    most_reads = math.ceil(bursts * max(1, rng.max_bytes / block) + bursts)
    return RateReading(watch_s, block, polled, _DISTURBED_SHARE * expected < REQUEST_BYTES, min(most_reads, _MOST_READS))


def check_rates(devices: Sequence[Unlimited | RngLimit], periods: int = _PERIODS) -> list[RateReading]:
    """How to read a source with each of these limits, in the same order.

    Raises
    ------
    UsageError
        If there are not three periods to be seen, or one of them takes more than an hour; with how long it takes.
    """
    plans = [reading_for(device, periods) for device in devices]
    for device, plan in zip(devices, plans, strict=True):
        if (whole_s := _whole_s(plan)) > _LONGEST_S:
            raise UsageError(
                f"To read a virtio-rng {named(device)} for {periods} periods takes {whole_s / 3600:.3g} h",
                "Give a shorter period, or fewer of them: an hour is the most for one limit.",
            )
    return plans


def _block(max_bytes: int) -> int:
    """Of a size that shows a burst, in whole requests of the driver."""
    requests = max_bytes // _READS_A_BURST // REQUEST_BYTES
    return min(max(requests, 1) * REQUEST_BYTES, _MOST_BLOCK_BYTES)


def measure_rates(
    devices: Sequence[Unlimited | RngLimit],
    store: Store,
    run: Run,
    *,
    periods: int = _PERIODS,
    kernel: GuestKernel | None = None,
    progress: Progress = silent,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Boot a guest for each device, one after the other, and time reads of its /dev/hwrng.

    Parameters
    ----------
    devices : sequence of Unlimited or RngLimit
        What is measured.
    store, run : Store, Run
        Where ``source_reads`` and ``rng_state`` go, and the run that they belong to.
    periods : int
        How many periods are seen at least.
    kernel : GuestKernel, optional
        What they boot; the newest that is installed or was fetched by default.
    progress : Progress
        Told of the seconds that have gone, of those that all will take.
    folder : Path, optional
        Where guests' files are meanwhile.

    Returns
    -------
    DataFrame
        Table ``source_reads``: t_ns of each call, wait_ns until its bytes came, read_bytes. A read that was still waiting at the
        end has errno ETIMEDOUT; of a source that has stalled there may be no other.

    Raises
    ------
    UsageError
        As :func:`check_rates`, before anything is booted.

    Warns
    -----
    NotMeasuredWarning
        For a device whose guest failed, or that could not be read undisturbed; it is left out, and the store tells why. For one
        from which the guest's own kernel never got what it had asked for: it has stalled, and its reads are there. For one that
        did not stall because it was read without waiting, under a kernel that makes a reader who waits stall behind such a limit.
    """
    import pandas as pd

    plans = check_rates(devices, periods)
    whole_s = [_whole_s(plan) for plan in plans]
    frames = [run.frame("source_reads", [])]
    for place, (device, plan) in enumerate(zip(devices, plans, strict=True)):
        begin_s = sum(whole_s[:place])
        within = part(progress, begin_s, begin_s + whole_s[place], sum(whole_s))
        within(0, 1, f"reading a virtio-rng {named(device)}")
        try:
            state, reads, stalled = _measure(f"rate-{place}", device, plan, kernel, folder)
        except (LabError, UnavailableError) as error:
            _left_out(store, run, device, error)
            warnings.warn(NotMeasuredWarning(f"The rate of a virtio-rng {named(device)} was not measured: {error}"), stacklevel=2)
            continue
        if stalled is not None:
            _left_out(store, run, device, stalled)
            warnings.warn(NotMeasuredWarning(f"A virtio-rng {named(device)} stalled: {stalled}"), stacklevel=2)
        elif plan.polled and (hidden := _hidden(device, kernel)) is not None:
            warnings.warn(NotMeasuredWarning(hidden), stacklevel=2)
        frame = run.frame("source_reads", reads)
        store.append("rng_state", run.frame("rng_state", [state]))
        store.append("source_reads", frame)
        frames.append(frame)
    progress(sum(whole_s), sum(whole_s), "rates measured")
    return pd.concat(frames, ignore_index=True)


def _hidden(device: Unlimited | RngLimit, kernel: GuestKernel | None) -> str | None:
    """What reads that do not wait cannot show: they take each answer whole, and a driver that stalls does so where one is not."""
    version = (kernel or find_kernels()[0]).version
    if not isinstance(device, RngLimit) or behind(device.max_bytes) != STALLS or not mislays(version):
        return None
    return (
        f"A virtio-rng {named(device)} was read without waiting. A reader that waits was not measured: {version} has a driver "
        f"that was measured to stall such readers behind such limits. Give {next_fitting(device.max_bytes)} bytes; see docs/lab.md"
    )


def _left_out(store: Store, run: Run, device: Unlimited | RngLimit, why: LabError | UnavailableError) -> None:
    left_out = LeftOut(f"rate of a virtio-rng {named(device)}", why.what, why.remedy)
    store.append("capabilities", run.frame("capabilities", [left_out.row()]))


def named(device: Unlimited | RngLimit) -> str:
    """A device, for people."""
    return f"limited to {device.max_bytes} B/{device.period_ms} ms" if isinstance(device, RngLimit) else "without a limit"


def _quiet_from_s(plan: RateReading) -> int:
    """From when on the kernel's own reader sleeps longer than the measurement takes: half of the time since boot."""
    return math.ceil(2 * plan.watch_s) + 2


def _draw_s(device: Unlimited | RngLimit) -> int:
    """How long the kernel's own reader may wait: for a draw that it is in the middle of, then for one more, with some to spare."""
    if isinstance(device, Unlimited):
        return 10
    draws = 2 * math.ceil(REQUEST_BYTES / device.max_bytes)
    return math.ceil((draws + 2) * device.period_ms / 1000) + 2


def _whole_s(plan: RateReading) -> float:
    """About how long it takes, boot and all."""
    return plan.watch_s + (_quiet_from_s(plan) if plan.quiet else 0) + 8


def _measure(
    name: str, device: Unlimited | RngLimit, plan: RateReading, kernel: GuestKernel | None, folder: Path | None
) -> tuple[dict[str, Any], list[dict[str, Any]], LabError | None]:
    """The state and the reads as rows, and, if the source stalled, that."""
    check_backend(device)
    draw_s = _draw_s(device)
    settings = {
        "quiet_from_s": str(_quiet_from_s(plan)) if plan.quiet else "",
        "draw_s": str(draw_s),
        "records": str(plan.most_reads),
        # A read that waits in the kernel is not cut short by its budget: what comes a period later still comes in time.
        "limit_s": str(math.ceil(plan.watch_s + 2 * (device.period_ms / 1000 if isinstance(device, RngLimit) else 1))),
    }
    read = program(_SOURCE, plan.block_bytes, plan.watch_s, plan.most_reads, pause_s=_POLL_S if plan.polled else None)
    spec = TinyGuest(
        name=name,
        script=script_of(_SCRIPT, settings),
        kernel=kernel,
        rng=device,
        # The guest has all it needs from its processor: no one else wants the device's bytes. And nobody in it to protect from
        # another, which under TCG costs a fifth of the rate.
        append="random.trust_cpu=on mitigations=off",
        files={"lab/read": read},
    )
    with boot_tiny([spec], folder) as (guest,):
        guest.stay_on_one_cpu()
        # Three attempts at most, if something else drew from the device meanwhile.
        files = guest.result(3 * (_whole_s(plan) + plan.watch_s + draw_s) + _SLACK_S)
        thread = files.get("thread", b"").strip()
        if plan.quiet and thread not in (b"undisturbed", b"stalled"):
            raise guest.failed("could not read its virtio-rng undisturbed: its kernel drew from it meanwhile, three times")
        calls = readings(files.get("reads", b""))
        if not calls or (thread != b"stalled" and not any(call.read_bytes for call in calls)):
            raise guest.failed("read nothing from its virtio-rng")
    said = recorded(files)
    common = {"guest": name, "boot_id": said.boot_id or str(uuid.uuid4())}
    state = {**said.state_row(), **device_row(device), **common}
    end_ns = calls[0].called_ns + round(plan.watch_s * 1e9)
    rows = [{**read_row(call, end_ns), "source": _SOURCE, "block_bytes": plan.block_bytes, **common} for call in calls]
    return state, rows, _stall(device, draw_s) if thread == b"stalled" else None


def _stall(device: Unlimited | RngLimit, draw_s: int) -> LabError:
    """What is said of a source that gave the guest's own kernel nothing."""
    what = f"the guest's kernel asked it for {REQUEST_BYTES} bytes and had not got them after {draw_s} s"
    if isinstance(device, RngLimit) and not fits(device.max_bytes):
        return LabError(
            f"{what}; no whole number of its {device.max_bytes} bytes makes {REQUEST_BYTES}, nor the other way round, and there "
            "are kernels that stall behind such a limit",
            f"Give {next_fitting(device.max_bytes)} bytes in place of {device.max_bytes}; see docs/lab.md.",
        )
    return LabError(what, "Look whether what feeds it on the host gives anything.")
