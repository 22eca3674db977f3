"""What a store received from guests a short while ago, for an audit: it fills in what a guest did not say when asked."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from toolkit.guests.audit_facts import Facts
from toolkit.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recent"]

#: Older than this, a guest may have been booted again since.
_RECENT = timedelta(minutes=15)
#: Older than this, a pool that was low or a generator that was not ready says nothing about now.
_NOW = timedelta(seconds=60)
#: Reads that wait because the generator is not ready, or the blocking pool is empty; a hwrng waits for its device.
_WAITING = ("getrandom", "/dev/random")
#: Of the sources, which can be told to have changed since by the devices that the host gives it.
_HWRNG = ("hwrng_available", "hwrng_current", "hwrng_quality")


@dataclass(frozen=True)
class _Tables:
    now: datetime
    samples: pd.DataFrame
    states: pd.DataFrame
    reads: pd.DataFrame


class Recent:
    """What a store has of some guests, read once for all of them, when the first asks. For several threads.

    Parameters
    ----------
    store : Store or None
        Where guests were received into; with None nothing is known.
    guests : collection of str
        Their names in the store.
    now : datetime, optional
        By default the host's clock, when it is read.
    """

    def __init__(self, store: Store | None, guests: Collection[str], now: datetime | None = None) -> None:
        self._store = store
        self._guests = set(guests)
        self._at = now
        self._tables: _Tables | None = None
        self._reading = threading.Lock()

    def beside(self, facts: Facts, guest: str, host: str | None, namesakes: int = 1) -> Facts:
        """The facts, and what the store has of the same boot of the guest.

        Parameters
        ----------
        facts : Facts
            What is known already, which counts more.
        guest : str
            The guest's name in the store.
        host : str or None
            Its host's own name. Where the guest did not say its boot_id itself, rows of another host's guest of that name are not
            used, and with None (hosts of one name) none are.
        namesakes : int
            Domains of that name on that host. A store does not tell them apart either.

        Raises
        ------
        StoreError
            If the store cannot be read any more.
        """
        if self._store is None or (facts.boot_id is None and (host is None or namesakes > 1)):
            return facts
        tables = self._read(self._store)
        samples = tables.samples[tables.samples["guest"] == guest]
        if facts.boot_id is not None:
            samples = samples[samples["boot_id"] == facts.boot_id]
        else:
            samples = samples[samples["host"].map(lambda each: _is_named(each, host or "")).astype(bool)]
        if samples.empty:
            return facts
        last = _known(samples.sort_values("utc").iloc[-1].to_dict())
        states, reads = (
            rows[(rows["boot_id"] == last["boot_id"]) & (rows["guest"] == guest)] for rows in (tables.states, tables.reads)
        )
        waits = reads[reads["source"].isin(_WAITING)]["wait_ns"].dropna()
        state = {} if states.empty else _known(states.iloc[-1].to_dict())
        age = max(timedelta(), tables.now - last["utc"].to_pydatetime())
        return _beside(facts, last, state, None if waits.empty else float(waits.max()) / 1e9, age)

    def _read(self, store: Store) -> _Tables:
        with self._reading:
            if self._tables is None:
                now = self._at or datetime.now(UTC)
                samples = store.read("entropy_samples", guest=self._guests, since=now - _RECENT, until=now + _RECENT)
                told = set(samples["guest"])
                columns = ["guest", "boot_id", "source", "wait_ns"]
                self._tables = _Tables(
                    now,
                    samples,
                    store.read("rng_state", guest=told),
                    store.read("source_reads", guest=told, columns=columns),
                )
            return self._tables


def _is_named(told: str, host: str) -> bool:
    """Whether two names are of one host: libvirt may say the domain of its name, which the host itself leaves out."""
    whole, other = told.casefold(), host.casefold()
    short = "." not in whole or "." not in other
    return whole == other or (short and whole.partition(".")[0] == other.partition(".")[0])


def _beside(facts: Facts, last: Mapping[str, Any], state: Mapping[str, Any], wait_s: float | None, age: timedelta) -> Facts:
    """The facts with their gaps filled."""
    told: dict[str, Any] = {
        "said_by": f"what our agent sent {age.total_seconds():.0f} s ago",
        "boot_id": last["boot_id"],
        "regime": state.get("regime"),
        "poolsize_bits": state.get("poolsize_bits"),
        "entropy_avail_bits": last["entropy_avail_bits"],
        "crng_ready": last["crng_ready"],
        "random_readable": last["random_readable"],
        "crng_ready_s": state.get("crng_ready_s"),
        "urandom_warnings": state.get("urandom_warnings"),
        "hwrng_available": _names(state.get("hwrng_available")),
        "hwrng_current": state.get("hwrng_current"),
        "hwrng_quality": state.get("hwrng_quality"),
        "trust_cpu": state.get("trust_cpu"),
        "feeders": _names(state.get("feeders")),
        "longest_wait_s": wait_s,
    }
    if facts.hwrng_available is not None:  # it said itself which it has: one that it did not name is none
        told |= dict.fromkeys(_HWRNG)
    notes = [*_too_old_for_now(told, age), *_contradicted(told, facts)]
    if state.get("regime") is not None and not facts.regime_evidence:
        told["regime_evidence"] = "as our agent said"
    filled = _gaps(facts, told)
    # The guest's own processor counts more than what the host makes of its definition.
    if state.get("cpu_rdrand") is not None and not facts.said_by:
        filled |= {"cpu_rdrand": state["cpu_rdrand"], "rdrand_detail": "its cpuinfo"}
    return replace(facts, **filled, notes=(*facts.notes, *notes))


def _too_old_for_now(told: dict[str, Any], age: timedelta) -> list[str]:
    """Take away what was so only at that moment: of what is told, a generator that is ready alone stays as it is."""
    if age <= _NOW:
        return []
    bits, ready, readable = told["entropy_avail_bits"], told["crng_ready"], told["random_readable"]
    told |= {"entropy_avail_bits": None, "random_readable": None, "crng_ready": ready or None}
    seen = "ready" if ready else "not ready" if ready is False else "in a state that it did not tell"
    pool = "" if bits is None else f", its pool held {bits} bits"
    blocked = ", /dev/random would have blocked" if readable is False else ""
    when = f"When our agent last told, {age.total_seconds():.0f} s ago"
    return [f"{when}, it was {seen}{pool}{blocked}; that says nothing about now."]


def _contradicted(told: dict[str, Any], facts: Facts) -> list[str]:
    """Take away its sources where the host's devices say otherwise: an agent tells them once, and they may have changed since."""
    names = told["hwrng_available"]
    if names is None or facts.devices is None or any(name.startswith("virtio_rng") for name in names) == bool(facts.devices):
        return []
    told |= dict.fromkeys(_HWRNG)
    return ["What our agent told of its hardware sources does not fit the devices that the host gives it now, and is not used."]


def _gaps(facts: Facts, told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told and was not known."""
    return {name: value for name, value in told.items() if value is not None and getattr(facts, name) in (None, "")}


def _names(text: Any) -> tuple[str, ...] | None:
    return None if text is None else tuple(str(text).split())


def _known(row: Mapping[Any, Any]) -> dict[str, Any]:
    import pandas as pd

    return {str(name): None if pd.isna(value) else value for name, value in row.items()}
