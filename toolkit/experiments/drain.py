"""Who waits for how long where several draw at once: readers in one guest, and guests that share one source of their host."""

from __future__ import annotations

import math
import random
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import LabError, UnavailableError, UsageError
from toolkit.experiments.made_guests import check_backend, device_row, read_row, script_of
from toolkit.guests.devices import Backend, RngLimit, Unlimited, check_rng
from toolkit.guests.reader import RECORD_BYTES, Reading, program, readings
from toolkit.guests.recorded import recorded
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.guests.told import MOST_RESULT_BYTES
from toolkit.lab_kernels import GuestKernel
from toolkit.progress import Progress, part, silent
from toolkit.runs import Run
from toolkit.scratch import LeftOut
from toolkit.sensors.source_reader import GETRANDOM
from toolkit.store import Store
from toolkit.units import bytes_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SOURCES", "Drain", "fairness", "measure_drain", "readers_at_once"]

_SCRIPT = Path(__file__).with_name("drain.sh")
#: What a reader can read.
SOURCES = (GETRANDOM, "/dev/random", "/dev/urandom", "/dev/hwrng")
_BLOCK_BYTES = 64
# Readers of a source that always has bytes: a hundred reads a second each, so that none waits for the processor.
_REST_S = 0.01
_MOST_READS = 100_000
# A round's end, what else a guest tells of itself, and tar's headers and padding.
_BESIDE_BYTES = 2 << 20
_BOOT_S = 120.0
# What is told over a port, and the end of what waits.
_SLACK_S = 60.0
_MOST_GUESTS = 16
_NS_PER_S = 10**9


@dataclass(frozen=True)
class Drain:
    """Guests that draw at once.

    Attributes
    ----------
    scenario : str
        ``readers`` or ``fairness``.
    guests : int
        How many at once.
    sources : tuple of str
        What each guest reads, a reader each.
    rng : Unlimited or RngLimit
        Their virtio-rng.
    watch_s : float
        How long a round is.
    repeats : int
        How many rounds.
    """

    scenario: str
    guests: int
    sources: tuple[str, ...]
    rng: Unlimited | RngLimit = field(default_factory=Unlimited)
    watch_s: float = 10.0
    repeats: int = 3

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises
        ------
        UsageError
            Names what can be given.
        """
        for source in self.sources:
            if source not in SOURCES:
                raise UsageError(f"{source!r} is no source of a guest", f"Give some of: {', '.join(SOURCES)}.")
        if not 1 <= self.guests <= _MOST_GUESTS or not 1 <= len(self.sources) <= 64:
            raise UsageError(
                f"{self.guests} guests of {len(self.sources)} readers cannot be",
                f"Give 1 to {_MOST_GUESTS} guests, 1 to 64 readers.",
            )
        if self.repeats < 1 or not 0.5 <= self.watch_s <= 3600:
            raise UsageError(
                f"{self.repeats} rounds of {self.watch_s:g} s measure nothing", "Give at least one, of 500ms to an hour."
            )
        if self.most_bytes > MOST_RESULT_BYTES:
            told, held = bytes_text(self.most_bytes), bytes_text(MOST_RESULT_BYTES)
            raise UsageError(
                f"{self.repeats} rounds of {self.watch_s:g} s, {self}: a guest could have to tell {told}, and may tell {held}",
                "Give fewer or shorter rounds, or fewer readers.",
            )
        check_rng(self.rng)

    @property
    def most_bytes(self) -> int:
        """What a guest could have to tell at the end: a record a read, of all its rounds and readers."""
        return self.repeats * sum(_records(self, source) for source in self.sources) * RECORD_BYTES + _BESIDE_BYTES

    @property
    def whole_s(self) -> float:
        """About how long it takes."""
        return 8.0 * self.guests + (self.watch_s + 1) * self.repeats

    def __str__(self) -> str:
        if self.scenario == "fairness":
            return f"{self.guests} guest{'s' * (self.guests > 1)} on the host's {self.rng.backend}"
        return f"{len(self.sources)} readers in one guest"


def readers_at_once(sources: Sequence[str], rng: Unlimited | RngLimit, watch_s: float = 10.0, repeats: int = 3) -> list[Drain]:
    """Several readers in one guest, and each of their sources alone, to compare with."""
    together = Drain("readers", 1, tuple(sources), rng, watch_s, repeats)
    if len(sources) == 1:
        return [together]
    return [*(Drain("readers", 1, (source,), rng, watch_s, repeats) for source in dict.fromkeys(sources)), together]


def fairness(guests: Sequence[int], backend: Backend = "/dev/hwrng", watch_s: float = 10.0, repeats: int = 3) -> list[Drain]:
    """One reader of /dev/hwrng a guest, so many guests at once, on one source of the host."""
    return [Drain("fairness", count, ("/dev/hwrng",), Unlimited(backend=backend), watch_s, repeats) for count in guests]


def measure_drain(
    drains: Sequence[Drain],
    store: Store,
    run: Run,
    *,
    kernel: GuestKernel | None = None,
    progress: Progress = silent,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Boot the guests of each, in random order, and let them draw round after round.

    Parameters
    ----------
    drains : sequence of Drain
        What is measured.
    store, run : Store, Run
        Where ``drain_reads`` and ``rng_state`` go, and the run that they belong to; its seed is that of the order.
    kernel : GuestKernel, optional
        What guests boot; the newest that is installed or was fetched by default.
    progress : Progress
        Told of the seconds that have gone, of those that all will take.
    folder : Path, optional
        Where guests' files are meanwhile.

    Returns
    -------
    DataFrame
        Table ``drain_reads``. A read that had not returned at the end of its round is there, with what it had waited by then.

    Warns
    -----
    NotMeasuredWarning
        For guests that failed, or a source that the host has not; they are left out, and the store tells why.
    """
    import pandas as pd

    for drain in drains:
        drain.check()
    order = list(drains)
    random.Random(run.seed).shuffle(order)  # noqa: S311 - an order, not a secret
    whole_s = sum(drain.whole_s for drain in order)
    gone_s = 0.0
    frames = [run.frame("drain_reads", [])]
    for drain in order:
        within = part(progress, gone_s, gone_s + drain.whole_s, whole_s)
        gone_s += drain.whole_s
        try:
            states, rows = _measure(drain, kernel, within, folder)
        except (LabError, UnavailableError) as error:
            left_out = LeftOut(str(drain), error.what, error.remedy or None)
            store.append("capabilities", run.frame("capabilities", [left_out.row()]))
            warnings.warn(left_out.warning(), stacklevel=2)
            continue
        frame = run.frame("drain_reads", rows)
        store.append("rng_state", run.frame("rng_state", states))
        store.append("drain_reads", frame)
        frames.append(frame)
    progress(whole_s, whole_s, "all have drawn")
    return pd.concat(frames, ignore_index=True)


def _measure(
    drain: Drain, kernel: GuestKernel | None, progress: Progress, folder: Path | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    check_backend(drain.rng)
    specs = [_guest(drain, f"{drain.scenario}-{number}", kernel) for number in range(drain.guests)]
    whole = drain.repeats + 1
    progress(0, whole, f"booting {drain}")
    with boot_tiny(specs, folder) as guests:
        for guest in guests:
            guest.hear("here", _BOOT_S)
        for repeat in range(drain.repeats):
            progress(1 + repeat, whole, f"{drain}, round {repeat + 1} of {drain.repeats}")
            for guest in guests:
                guest.tell(f"round {repeat}", _SLACK_S)
            for guest in guests:
                guest.hear("over", drain.watch_s + _SLACK_S)
        for guest in guests:
            guest.tell("end", _SLACK_S)
        results = [guest.result(_SLACK_S) for guest in guests]
    states, rows = [], []
    for spec, files in zip(specs, results, strict=True):
        said = recorded(files)
        common = {"guest": spec.name, "boot_id": said.boot_id or str(uuid.uuid4())}
        states.append({**said.state_row(), **device_row(drain.rng), **common})
        rows += [{**row, **common} for row in _rows(drain, files)]
    if not rows:
        raise guests[0].failed("drew nothing")
    return states, rows


def _guest(drain: Drain, name: str, kernel: GuestKernel | None) -> TinyGuest:
    records = [_records(drain, source) for source in drain.sources]
    settings = {"records": " ".join(map(str, records)), "limit_s": str(math.ceil(drain.watch_s + 1))}
    files = {}
    for number, (source, most) in enumerate(zip(drain.sources, records, strict=True)):
        # A source that makes its readers wait is read without a rest; the others would keep the processor busy.
        rest_s = 0.0 if source == "/dev/hwrng" else _REST_S
        files[f"lab/read.{number}"] = program(source, _BLOCK_BYTES, drain.watch_s, most, rest_s=rest_s)
    return TinyGuest(
        name=name,
        script=script_of(_SCRIPT, settings),
        kernel=kernel,
        rng=drain.rng,
        append="random.trust_cpu=on",
        files=files,
    )


def _records(drain: Drain, source: str) -> int:
    """What a reader can have to note in a round at most."""
    if source != "/dev/hwrng":
        return min(_MOST_READS, math.ceil(drain.watch_s / _REST_S) + 1)
    # At a megabyte a second: more than a guest without KVM draws. A limit lets come less, twice as often as whole blocks at most.
    reads = math.ceil(drain.watch_s * 1e6 / _BLOCK_BYTES)
    if isinstance(drain.rng, RngLimit):
        periods = math.ceil(drain.watch_s * 1000 / drain.rng.period_ms) + 2
        reads = min(reads, 2 * periods * (math.ceil(drain.rng.max_bytes / _BLOCK_BYTES) + 1))
    return min(_MOST_READS, reads)


def _rows(drain: Drain, files: dict[str, bytes]) -> list[dict[str, Any]]:
    rows = []
    for repeat in range(drain.repeats):
        end_ns = _seconds_ns(files.get(f"ended.{repeat}", b""))
        for number, source in enumerate(drain.sources):
            constant = {
                "scenario": drain.scenario,
                "reader": _name(drain.sources, number),
                "source": source,
                "guests_at_once": drain.guests,
                "readers_at_once": len(drain.sources),
                "repeat": repeat,
                **device_row(drain.rng),
                "block_bytes": _BLOCK_BYTES,
            }
            rows += [{**constant, **_row(call, end_ns)} for call in readings(files.get(f"reads.{repeat}.{number}", b""))]
    return rows


def _name(sources: tuple[str, ...], number: int) -> str:
    """A reader is called by its source; of several of one source the first is 1."""
    source = sources[number]
    return f"{source} {sources[: number + 1].count(source)}" if sources.count(source) > 1 else source


def _row(call: Reading, end_ns: int | None) -> dict[str, Any]:
    return {**read_row(call, end_ns or 0), "wait_censored": call.returned_ns is None, "errno": call.errno}


def _seconds_ns(text: bytes) -> int | None:
    """A moment from the first field of /proc/uptime."""
    whole, _, parts = text.strip().partition(b".")
    if not (whole.isdigit() and parts.isdigit() and len(whole) < 10 and len(parts) < 10):
        return None
    return int(float(text) * _NS_PER_S)
