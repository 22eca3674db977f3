"""What a store received from a guest a short while ago, for an audit: it fills in what the guest did not say when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from toolkit.guests.audit_facts import Facts
from toolkit.store import Store

__all__ = ["recently"]

#: Older than this, a guest may have been booted again since.
_RECENT = timedelta(minutes=15)
#: Reads that wait because the generator is not ready, or the blocking pool is empty; a hwrng waits for its device.
_WAITING = ("getrandom", "/dev/random")


def recently(store: Store | None, facts: Facts, guest: str, namesakes: int = 1, now: datetime | None = None) -> Facts:
    """The facts, and what the store has of the same boot of the guest.

    Parameters
    ----------
    store : Store or None
        Where guests were received into; None leaves the facts as they are.
    facts : Facts
        What is known already, which counts more.
    guest : str
        The guest's name in the store.
    namesakes : int
        Domains of that name in the audit. A store does not tell them apart, so that with more than one, and no boot_id that the
        guest said itself, none of it is used.
    now : datetime, optional
        By default the host's clock.
    """
    if store is None or (namesakes > 1 and facts.boot_id is None):
        return facts
    now = now or datetime.now(UTC)
    samples = store.read("entropy_samples", guest=guest, since=now - _RECENT, until=now + _RECENT)
    if facts.boot_id is not None:
        samples = samples[samples["boot_id"] == facts.boot_id]
    if samples.empty:
        return facts
    last = _known(samples.sort_values("utc").iloc[-1].to_dict())
    boot_id = last["boot_id"]
    states = store.read("rng_state", guest=guest)
    states = states[states["boot_id"] == boot_id]
    state = {} if states.empty else _known(states.iloc[-1].to_dict())
    age_s = max(0.0, (now - last["utc"].to_pydatetime()).total_seconds())
    return _beside(facts, last, state, _longest_wait_s(store, guest, boot_id), f"what our agent sent {age_s:.0f} s ago")


def _beside(facts: Facts, last: Mapping[str, Any], state: Mapping[str, Any], wait_s: float | None, by: str) -> Facts:
    """The facts with their gaps filled."""
    told: dict[str, Any] = {
        "said_by": by,
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
    if state.get("regime") is not None and not facts.regime_evidence:
        told["regime_evidence"] = "as our agent said"
    # The guest's own processor counts more than what the host makes of its definition.
    if state.get("cpu_rdrand") is not None and not facts.said_by:
        told |= {"cpu_rdrand": state["cpu_rdrand"], "rdrand_detail": "its cpuinfo"}
        return replace(facts, **{**_gaps(facts, told), "cpu_rdrand": told["cpu_rdrand"], "rdrand_detail": told["rdrand_detail"]})
    return replace(facts, **_gaps(facts, told))


def _gaps(facts: Facts, told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told and was not known."""
    return {name: value for name, value in told.items() if value is not None and getattr(facts, name) in (None, "")}


def _longest_wait_s(store: Store, guest: str, boot_id: str) -> float | None:
    reads = store.read("source_reads", guest=guest, columns=["boot_id", "source", "wait_ns"])
    waits = reads[(reads["boot_id"] == boot_id) & reads["source"].isin(_WAITING)]["wait_ns"].dropna()
    return None if waits.empty else float(waits.max()) / 1e9


def _names(text: Any) -> tuple[str, ...] | None:
    return None if text is None else tuple(str(text).split())


def _known(row: Mapping[Any, Any]) -> dict[str, Any]:
    import pandas as pd

    return {str(name): None if pd.isna(value) else value for name, value in row.items()}
