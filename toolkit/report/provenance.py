"""Where a report's figures come from: the machines, the runs, the versions, the command. It stands at the foot of every page."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit._version import __version__
from toolkit.markup import visible
from toolkit.units import bytes_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Frame", "Provenance", "machines", "provenance"]

#: Runs that are listed, newest first; the rest is counted.
RUNS = 30
#: Machines that are described; the rest is counted.
MACHINES = 10
_LIBRARIES = ("pandas", "numpy", "scipy", "pyarrow", "matplotlib", "itables", "papermill", "nbconvert")


@dataclass(frozen=True)
class Frame:
    """A small table of text, as the templates show it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Provenance:
    """What the foot of a page says.

    Attributes
    ----------
    facts : sequence of (name, text)
        The machine, the store, the versions, the command.
    runs : Frame
        The runs, newest first.
    summary : str
        How many there are, in words.
    """

    facts: Sequence[tuple[str, str]]
    runs: Frame
    summary: str


def provenance(runs: pd.DataFrame, store: Path, made: datetime | None = None) -> Provenance:
    """What can be said of where these runs come from.

    Parameters
    ----------
    runs : DataFrame
        Rows of the table ``runs``.
    store : Path
        The store they were read from.
    made : datetime, optional
        When the report was made; now by default.
    """
    ordered = runs.sort_values("started_utc", ascending=False, kind="stable")
    told = machines(runs)
    facts = [("machine", each) for each in told[:MACHINES]]
    if len(told) > MACHINES:
        facts.append(("and", f"{len(told) - MACHINES} more machine{'s' if len(told) > MACHINES + 1 else ''}"))
    facts += [
        ("measured", _when(ordered) or "nothing"),
        ("toolkit", _toolkit_versions(ordered)),
        ("store", visible(store)),
        ("report made", f"{made or datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("by the command", visible(_command(sys.argv), 1000)),
        ("with", f"Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)),
    ]
    count = len(ordered)
    summary = "1 run" if count == 1 else f"{count} runs" if count <= RUNS else f"{count} runs; the newest {RUNS}"
    return Provenance(facts, _runs(ordered.head(RUNS)), summary)


def _command(arguments: Sequence[str]) -> str:
    program = Path(arguments[0])
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return " ".join([name, *(shlex.quote(each) for each in arguments[1:])])


def machines(runs: pd.DataFrame) -> list[str]:
    """Each machine in words, as its newest run found it; the one that measured last comes first."""
    from toolkit.analysis.machines import machines as machines_of

    return [_machine(row) for row in machines_of(runs).itertuples(index=False)]


def _machine(row: Any) -> str:
    parts = [
        visible(row.host),
        _hypervisor(row.hypervisor),
        f"{_known(row.cpu_count, '{} × ', '')}{_known(row.cpu_model, '{}', 'processor unknown')}",
        "memory unknown" if _null(row.memory_bytes) else f"{bytes_text(int(row.memory_bytes))} memory",
        _known(row.kernel, "kernel {}", "kernel unknown"),
    ]
    return ", ".join(parts)


def _hypervisor(value: object) -> str:
    if _null(value):
        return "no hypervisor seen"
    return "a virtual machine of an unknown hypervisor" if value == "unknown" else f"a virtual machine under {visible(value)}"


def _known(value: object, pattern: str, otherwise: str) -> str:
    return otherwise if _null(value) else pattern.format(visible(value))


def _null(value: object) -> bool:
    import pandas as pd

    return value is None or bool(pd.isna(value))  # type: ignore[call-overload]


def _when(ordered: pd.DataFrame) -> str:
    if ordered.empty:
        return ""
    last, first = ordered["started_utc"].iloc[0], ordered["started_utc"].iloc[-1]
    return f"{first:%Y-%m-%d %H:%M} UTC" if first == last else f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _toolkit_versions(ordered: pd.DataFrame) -> str:
    measured = sorted({visible(version) for version in ordered["toolkit_version"].dropna()})
    return f"{__version__} made the report" + (f"; {', '.join(measured)} measured" if measured else "")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _runs(ordered: pd.DataFrame) -> Frame:
    columns = ("run", "started (UTC)", "host", "kernel", "command", "seed")
    rows = [
        (
            visible(row.run_id),
            f"{row.started_utc:%Y-%m-%d %H:%M:%S}",
            visible(row.host),
            _known(row.kernel, "{}", "unknown"),
            _known(row.command, "{}", "unknown"),
            _known(row.seed, "{}", "none"),
        )
        for row in ordered.itertuples(index=False)
    ]
    return Frame(columns, rows)
