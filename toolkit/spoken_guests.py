"""What the commands of ``toolkit guests`` say to people: tables and sentences. Pure; escaping is :mod:`toolkit.terminal`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from toolkit.guests.domain_xml import QGA_NAME, RngDevice, RngLimit
from toolkit.guests.wire import PORT_NAME
from toolkit.markup import visible

if TYPE_CHECKING:
    from toolkit.guests.attachment import Attachment
    from toolkit.guests.libvirt import DomainRow

__all__ = ["attachment", "domain_table", "reasons"]

_SHORT_NAMES = {QGA_NAME: "qga", PORT_NAME: "ours"}


def domain_table(rows: Sequence[DomainRow]) -> pd.DataFrame:
    """The domains, a row each, for a terminal; what cannot be told is missing."""
    return pd.DataFrame(
        {
            "domain": [row.name for row in rows],
            "state": [row.state for row in rows],
            "machine": [None if row.machine is None else f"{row.machine} ({row.kind})" for row in rows],
            "ACPI": [row.acpi for row in rows],
            "rng": [None if row.state is None else ", ".join(map(_rng, row.rng)) or "none" for row in rows],
            "ports": [_ports(row) for row in rows],
            "guest agent": [_agent(row) for row in rows],
            "RDRAND": [row.cpu_rdrand for row in rows],
            "RDSEED": [row.cpu_rdseed for row in rows],
            "sampled by": [row.sampled_by or "nothing yet" for row in rows],
        },
        dtype="object",
    )


def _rng(device: RngDevice) -> str:
    limit = RngLimit() if device.max_bytes is None else RngLimit(device.max_bytes, device.period_ms or 1000)
    return f"{device.backend} {device.source or ''}".strip() + f", {limit}"


def _ports(row: DomainRow) -> str | None:
    if row.state is None:
        return None
    shown = (
        f"{_SHORT_NAMES.get(port.name or '', port.name)}{' (open)' if port.state == 'connected' else ''}" for port in row.channels
    )
    return ", ".join(shown) or "none"


def _agent(row: DomainRow) -> str | None:
    if row.qga is None:
        return None
    if not row.qga:
        return "no port"
    return {True: "answers", False: "silent", None: "not asked"}[row.qga_answers]


def reasons(rows: Sequence[DomainRow]) -> Iterator[str]:
    """Why and how each domain can be sampled, a line each."""
    for row in rows:
        yield f"{visible(row.name)}: {row.why}."
        if row.state is not None and (row.cpu_rdrand is None or row.cpu_rdseed is None):
            yield f"{visible(row.name)}: RDRAND and RDSEED cannot be told: {row.cpu_detail}."


def attachment(done: Attachment) -> Iterator[str]:
    """What was done to a domain, a line each, and what remains to be done by hand."""
    name = visible(done.domain)
    if not done.steps:
        yield f"{name}: nothing of ours is there."
    for step in done.steps:
        yield f"{name}: {step.what}, {step.where}: {step.outcome}" + (f" ({step.detail})" if step.detail else "")
    if done.by_hand:
        yield (
            "To be run in the guest, as root"
            + _NEEDED_FILE * any("agent.pyz" in line and "install" in line for line in done.by_hand)
            + ":"
        )
        yield from (f"  {line}" for line in done.by_hand)


_NEEDED_FILE = ", where agent.pyz is (made here by: toolkit guests agent --out agent.pyz)"
