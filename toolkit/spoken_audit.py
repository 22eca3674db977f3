"""What an audit says: a row of the table ``audits``, JSON, and lines for people. Pure; escaping is :mod:`toolkit.terminal`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from toolkit.analysis.remedy import Remedy, remedies
from toolkit.analysis.verdicts import VERDICTS, Verdict, judge
from toolkit.guests.audit import Audited
from toolkit.markup import visible

__all__ = ["Judged", "as_json", "judged", "lines", "overview", "row"]


@dataclass(frozen=True)
class Judged:
    """A domain, its verdict, and what to do."""

    found: Audited
    verdict: Verdict
    remedies: tuple[Remedy, ...]


def judged(found: Sequence[Audited]) -> list[Judged]:
    """The verdict about each."""
    made = []
    for each in found:
        verdict = judge(each.facts)
        made.append(Judged(each, verdict, remedies(each.facts, verdict)))
    return made


def row(each: Judged, utc: datetime) -> dict[str, Any]:
    """Its row of ``audits``; the common columns that are left out are the run's."""
    facts, target = each.found.facts, each.found.facts.target
    devices = facts.devices or ()
    device = facts.tightest or (devices[0] if devices else None)
    limited = device is not None and device.max_bytes is not None
    made: dict[str, Any] = {
        "host": each.found.host,
        "guest": None if target is None else target.name,
        "utc": utc,
        "uri": each.found.uri,
        "domain_uuid": None if target is None else target.uuid,
        "verdict": each.verdict.verdict,
        "causes": " ".join(each.verdict.causes),
        "evidence": "\n".join(each.verdict.evidence),
        "remedy": "\n".join(line for remedy in each.remedies for line in (remedy.what, remedy.command) if line) or None,
        "remedy_xml": "\n".join(remedy.xml.rstrip("\n") for remedy in each.remedies if remedy.xml) or None,
        "regime": facts.regime,
        "crng_ready": facts.ready,
        "virtio_rng_backend": None if device is None else device.backend,
        "virtio_rng_max_bytes": device.max_bytes if device is not None and limited else None,
        "virtio_rng_period_ms": device.period_ms if device is not None and limited else None,
        "driver_bound": facts.driver_bound,
        "cpu_rdrand": facts.cpu_rdrand,
        "rdrand_lacking_on": _lacking_on(each),
    }
    return made if facts.boot_id is None else {**made, "boot_id": facts.boot_id}


def _lacking_on(each: Judged) -> str | None:
    """Hosts where it would not have RDRAND; None where one of them could not be told and none of the others lacks it."""
    moves = each.found.facts.moves
    lacking = [] if each.found.facts.cpu_rdrand is False else [move.host for move in moves if move.rdrand is False]
    return None if not lacking and any(move.rdrand is None for move in moves) else " ".join(lacking)


def as_json(each: Judged, utc: datetime) -> dict[str, Any]:
    """Its row for machines: as in the table, with sentences, remedies and moves as lists."""
    made = {name: value for name, value in row(each, utc).items() if name != "remedy_xml"}
    return {
        **made,
        "utc": utc.isoformat(),
        "boot_id": each.found.facts.boot_id,
        "causes": list(each.verdict.causes),
        "evidence": list(each.verdict.evidence),
        "remedy": [asdict(remedy) for remedy in each.remedies],
        "moves": [asdict(move) for move in each.found.facts.moves],
    }


def overview(made: Sequence[Judged]) -> pd.DataFrame:
    """A row a guest, for a terminal."""
    frame = pd.DataFrame(
        {
            "host": [each.found.host for each in made],
            "guest": [each.found.name or None for each in made],
            "verdict": [each.verdict.verdict for each in made],
            "causes": [" ".join(each.verdict.causes) or None for each in made],
            "evidence": [each.verdict.because for each in made],
        },
        dtype="object",
    )
    return frame if len({each.found.host for each in made}) > 1 else frame.drop(columns="host")


def lines(made: Sequence[Judged]) -> Iterator[str]:
    """For each guest that is not sound its evidence and what to do, and last the number of each verdict."""
    for each in made:
        if each.verdict.causes:
            yield f"{visible(each.found.name or each.found.host)}: {each.verdict.verdict} ({', '.join(each.verdict.causes)})"
            yield from (f"  - {sentence}" for sentence in each.verdict.evidence)
            for remedy in each.remedies:
                yield f"  To do: {remedy.what}"
                yield from (f"      {line}" for line in (remedy.command or "", *(remedy.xml or "").splitlines()) if line)
            yield ""
    count = Counter(each.verdict.verdict for each in made)
    yield ", ".join(f"{count[verdict]} {verdict}" for verdict in reversed(VERDICTS) if count[verdict]) + "."
