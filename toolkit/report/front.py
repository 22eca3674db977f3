"""What the first page says: the findings, the key figure of each page, what was measured, on what, and what was not and why.

Notebooks offer their part by tags of cells: what a cell tagged ``finding`` shows stands on the first page, in the order of the
notebooks; the figure of a cell tagged ``key-figure`` stands for its page (else the page's first figure does). The rest is read
from the store. How it looks is the template's.
"""

from __future__ import annotations

import base64
import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.errors import DamagedFileWarning
from toolkit.markup import Fragment, paragraph, visible
from toolkit.report.inert import alt_text
from toolkit.report.provenance import Frame, machines
from toolkit.share import is_reference_store
from toolkit.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

    from toolkit.report.notebooks import Notebook
    from toolkit.store import Store

__all__ = ["Card", "Findings", "Front", "Highlights", "Picture", "front", "highlights", "question"]

#: Tables about the measuring itself; they are told of elsewhere on the page.
_ABOUT = ("runs", "capabilities")
#: Before everything else, where it is not this machine that the pages are about.
_REFERENCE = (
    "These are the reference data that come with the toolkit, not measurements of this machine: 'toolkit measure' makes those. "
)
_PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
_MARKS = re.compile(r"\[([^\]]*)\]\([^)]*\)|[*`]+")


@dataclass(frozen=True)
class Picture:
    """A figure, inside the page."""

    source: str
    alt: str


@dataclass(frozen=True)
class Highlights:
    """What a notebook offers to the first page."""

    findings: Sequence[Fragment] = ()
    picture: Picture | None = None


@dataclass(frozen=True)
class Findings:
    """What one page found."""

    href: str
    title: str
    sentences: Sequence[Fragment]


@dataclass(frozen=True)
class Card:
    """A page, as the first page shows it."""

    href: str
    title: str
    question: str
    picture: Picture | None


@dataclass(frozen=True)
class Front:
    """The content of the first page; the template ``front.html.j2`` reads it."""

    heading: str
    lead: str
    scope: str
    findings: Sequence[Findings]
    cards: Sequence[Card]
    measured: Frame
    unmeasured: Frame
    nothing_left_out: str
    damaged: Sequence[str] = ()
    missing: Sequence[tuple[str, str, str]] = field(default_factory=list)


def highlights(node: NotebookNode) -> Highlights:
    """What a notebook that was run offers to the first page. Its outputs were approved before (:mod:`toolkit.report.inert`)."""
    findings: list[Fragment] = []
    first: Picture | None = None
    key: Picture | None = None
    for cell in node.cells:
        tags = cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            if "finding" in tags:
                findings += _finding(output)
            shown = _picture(output)
            first = first or shown
            if "key-figure" in tags:
                key = key or shown
    return Highlights(findings, key or first)


def _finding(output: NotebookNode) -> list[Fragment]:
    data = output.get("data", {})
    if "text/html" in data:
        return [Fragment(data["text/html"])]
    if "text/plain" in data:
        return [paragraph(data["text/plain"])]
    return [paragraph(line) for line in output.get("text", "").splitlines()]


def _picture(output: NotebookNode) -> Picture | None:
    data = output.get("data", {})
    for kind in () if "text/html" in data else _PICTURES:
        if kind in data:
            content = data[kind]
            packed = (
                base64.b64encode(content.encode("utf-8")).decode("ascii") if kind == "image/svg+xml" else content.replace("\n", "")
            )
            return Picture(f"data:{kind};base64,{packed}", visible(alt_text(output), None))
    return None


def question(notebook: Notebook) -> str:
    """The first paragraph after a notebook's heading, as plain text: by custom the question that it answers."""
    for cell in notebook.node.cells:
        if cell.cell_type == "markdown":
            for block in cell.source.split("\n\n"):
                text = " ".join(block.split())
                if text and not text.startswith("#"):
                    return _MARKS.sub(r"\1", text)
    return ""


def front(store: Store, runs: pd.DataFrame, cards: Sequence[Card], findings: Sequence[Findings], where: dict[str, Any]) -> Front:
    """The first page from the store and from what the notebooks offered.

    Parameters
    ----------
    store : Store
        Where the measurements lie.
    runs : DataFrame
        The rows of ``runs`` that the report is about.
    cards, findings : sequence
        What the notebooks offered.
    where : dict
        The ``host`` and ``run`` that the report is confined to, as for ``Store.read``.
    """
    hosts = sorted({visible(host) for host in runs["host"]})
    named = ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")
    scope = "".join(f", {name} {visible(value)}" for name, value in where.items() if value is not None)
    with _noting_damage(tell=False) as damaged_runs:  # whoever read the runs was told already
        store.files("runs")
    with _noting_damage() as damaged:
        measured, unmeasured, nothing_left_out = _measured(store, where), _unmeasured(store, where), _nothing_left_out(store, where)
    return Front(
        heading=f"What was measured on {named}" if hosts else "Nothing was measured yet",
        lead=(_REFERENCE if is_reference_store(store.path) else "") + _lead(runs),
        scope=scope,
        findings=findings,
        cards=cards,
        measured=measured,
        unmeasured=unmeasured,
        nothing_left_out=nothing_left_out,
        damaged=[*damaged_runs, *damaged],
    )


@contextlib.contextmanager
def _noting_damage(*, tell: bool = True) -> Iterator[list[str]]:
    """What is said of damaged files in the body, each once; it is also said on to whoever makes the report."""
    noted: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DamagedFileWarning)
        yield noted
    for warning in caught:
        said = visible(warning.message, None)
        damage, known = issubclass(warning.category, DamagedFileWarning), said in noted
        if damage and not known:
            noted.append(said)
        if not damage or (tell and not known):
            warnings.warn(warning.message, stacklevel=3)


def _lead(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "The pages show what each would answer, and say what they lack."
    days = sorted({f"{day:%Y-%m-%d}" for day in runs["started_utc"]})
    when = f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
    told = machines(runs)
    where = told[0] if len(told) == 1 else f"{len(told)} machines"
    return f"{where}. {len(runs)} run{'s' if len(runs) > 1 else ''} {when}."


def _measured(store: Store, where: dict[str, Any]) -> Frame:
    rows = []
    for name, table in TABLES.items():
        if name in _ABOUT:
            continue
        seen = store.read(name, columns=["host", "guest"], **where)
        if len(seen):
            targets = seen.drop_duplicates()
            guests = int(targets["guest"].notna().sum())
            by = f"{targets['host'].nunique()} host{'s' if targets['host'].nunique() > 1 else ''}"
            rows.append(
                (name, table.row, f"{len(seen):,}", by + (f", {guests} guest{'s' if guests > 1 else ''}" if guests else ""))
            )
    return Frame(("table", "a row is", "rows", "from"), rows)


def _unmeasured(store: Store, where: dict[str, Any]) -> Frame:
    rows = _newest_capabilities(store, where)
    missing = rows[~rows["available"].astype(bool)]
    several = rows["host"].nunique() > 1
    return Frame(
        ("what", "why", "how to get it"),
        [
            (
                (f"{visible(row.host)}: " if several else "") + visible(row.capability),
                _or(row.detail, "no reason was recorded"),
                _or(row.remedy, "it cannot be had on this machine"),
            )
            for row in missing.itertuples(index=False)
        ],
    )


def _or(text: object, otherwise: str) -> str:
    import pandas as pd

    return otherwise if pd.isna(text) or not str(text).strip() else visible(text, 500)  # type: ignore[call-overload]


def _nothing_left_out(store: Store, where: dict[str, Any]) -> str:
    if _newest_capabilities(store, where).empty:
        return "The store does not say: no run in it recorded what its machine could measure."
    return "Nothing was left out: these runs could measure all that they tried."


def _newest_capabilities(store: Store, where: dict[str, Any]) -> pd.DataFrame:
    """Each capability of each target as its newest run found it."""
    from toolkit.analysis.capabilities import newest

    return newest(store.read("capabilities", **where))
