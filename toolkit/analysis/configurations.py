"""What a configuration of booted guests is called: short words from the columns of table ``boots``, the same wherever it is named.

A cell's own text says all of it, on every row, in one long line. Here are the words for a row *within* its kernel and plan: what
the guest had to draw on, and what its early user space asked for. What is drawn or said of them is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from toolkit.analysis.frames import check_columns
from toolkit.units import bytes_text, duration_text

__all__ = [
    "ASKS", "NO_SOURCE", "PART", "TRANSLATED", "asks_words", "felt", "most_warnings", "named", "part_words", "parts", "translated",
    "where_words", "with_words",
]  # fmt: skip

#: What early user space asks for, in words, in the order in which it is shown.
ASKS = {
    "getrandom": "getrandom waits",
    "urandom": "urandom read first, then getrandom",
    "nothing": "nothing asks",
}
#: What a guest is called that has nothing to draw on.
NO_SOURCE = "no source"
#: What must be said of times that were taken without KVM.
TRANSLATED = "The guests ran under TCG: their processor is many times slower than a real one, which lengthens every time."
#: Boots that differ in one of these are never shown as one.
PART = ("host", "plan", "kernel")
_UNKNOWN = "what is asked is not known"
_RDRAND = {"trusted": "RDRAND, credited", "untrusted": "RDRAND, not credited", "absent": ""}
#: Remedies that the other columns say already.
_NO_FEEDERS = ("none", "virtio-rng", "rdrand")
_DEVICE = ("virtio_rng_backend", "virtio_rng_max_bytes", "virtio_rng_period_ms")
_NEEDED = (*PART, "cell", "rdrand", *_DEVICE, "remedy", "asked")


def most_warnings(rows: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Of each group of ``boots`` the most reads of /dev/urandom that one boot's kernel told of, or counted, as too early.

    Examples
    --------
    >>> most_warnings(pd.DataFrame({"cell": ["a", "a", "b"], "urandom_warnings": [20, 19, None]}), ["cell"]).tolist()
    [20.0, nan]
    """
    return rows.astype(dict.fromkeys(by, "str")).groupby(list(by), sort=False)["urandom_warnings"].max()


def translated(frame: pd.DataFrame) -> bool:
    """Whether all boots of which it is known ran without KVM, their processors translated by QEMU.

    Examples
    --------
    >>> translated(pd.DataFrame({"accelerator": ["tcg", None]})), translated(pd.DataFrame({"accelerator": ["tcg", "kvm"]}))
    (True, False)
    """
    return set(frame["accelerator"].dropna()) == {"tcg"}


def felt(frame: pd.DataFrame) -> str:
    """Which time of boots tells what their source did: ``longest_wait_s`` where ``getrandom`` was asked, else ``crng_ready_s``.

    When a generator was ready counts from boot, and a guest takes its seconds to boot with any source; the wait is what a program
    feels. It is not there where nothing asked.

    Examples
    --------
    >>> felt(pd.DataFrame({"asked": ["nothing"], "longest_wait_ns": [None]}))
    'crng_ready_s'
    """
    asked = frame.loc[frame["asked"] != "nothing", "longest_wait_ns"]
    return "longest_wait_s" if asked.notna().any() else "crng_ready_s"


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """``boots`` with what each row is called.

    Parameters
    ----------
    frame : DataFrame
        Table ``boots``.

    Returns
    -------
    pandas.DataFrame
        The same rows, and three columns of text more: ``asks`` (see :data:`ASKS`; an ordered category), ``configuration``, and
        ``kind``: the same without the backend of the virtio-rng. The configuration names the backend only where boots that are
        otherwise alike have several. Where the rows are of several hosts, plans or kernels, it begins with these. Two cells that
        no column tells apart are called by their own text.

    Raises
    ------
    TableError
        If a column is missing.

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "host": "vm", "plan": "p", "kernel": "6.1", "cell": ["a", "b", "c"], "rdrand": ["trusted", "absent", "absent"],
    ...     "virtio_rng_backend": [None, "egd", None], "virtio_rng_max_bytes": [None, 4, None],
    ...     "virtio_rng_period_ms": [None, 4000, None], "remedy": "none", "asked": "nothing",
    ... })
    >>> named(rows)["configuration"].tolist()
    ['RDRAND, credited', 'virtio-rng, 4 B in 4 s', 'no source']
    """
    check_columns(frame, _NEEDED, "boots")
    rows = list(frame[list(_NEEDED)].itertuples(index=False))
    asks = [asks_words(row.asked) for row in rows]
    order = list(dict.fromkeys([*ASKS.values(), *sorted(set(asks))]))
    found = frame.assign(
        asks=pd.Categorical(asks, [name for name in order if name in set(asks)], ordered=True),
        kind=pd.Series([_called(row, with_backend=False) for row in rows], frame.index, dtype="object"),
        configuration=pd.Series([_called(row, with_backend=True) for row in rows], frame.index, dtype="object"),
    )
    alike = found.groupby([*PART, "kind"], dropna=False, sort=False)["virtio_rng_backend"]
    found["configuration"] = found["configuration"].where(alike.transform("nunique") > 1, found["kind"])
    for column in reversed(PART):
        if found[column].nunique(dropna=False) > 1:
            begin = found[column].fillna(f"{column} not known") + ": "
            found = found.assign(configuration=begin + found["configuration"], kind=begin + found["kind"])
    cells = found.groupby([*PART, "asks", "configuration"], dropna=False, sort=False, observed=True)["cell"].transform("nunique")
    return found.assign(**{name: found[name].where(cells < 2, found["cell"]) for name in ("configuration", "kind")})


def parts(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The boots of each host, plan and kernel, each with its words."""
    several = {column for column in PART if column != "kernel" and frame[column].nunique() > 1}
    return [
        (part_words(dict(zip(PART, values, strict=True)), several), part)
        for values, part in frame.groupby(list(PART), dropna=False, sort=True)
    ]


def part_words(values: dict[str, Any], several: Sequence[str] | set[str] = ()) -> str:
    """A kernel in words, with the host and the plan where there are several of them."""
    kernel = "kernel not known" if pd.isna(values["kernel"]) else f"kernel {values['kernel']}"
    return ", ".join([*(str(values[column]) for column in PART if column in several), kernel])


def asks_words(asked: Any) -> str:
    """What early user space asks for, in words."""
    return _UNKNOWN if pd.isna(asked) else ASKS.get(str(asked), f"{asked} asked")


def where_words(asks: str) -> str:
    """The same, before what was found of these boots.

    Examples
    --------
    >>> where_words(asks_words("urandom"))
    'where urandom is read first'
    """
    return "where urandom is read first" if asks == ASKS["urandom"] else f"where {asks}"


def with_words(name: str) -> str:
    """A configuration within a sentence.

    Examples
    --------
    >>> with_words("no source"), with_words("RDRAND, credited")
    ('without a source', 'with RDRAND credited')
    """
    return "without a source" if name == NO_SOURCE else f"with {name.replace('RDRAND, ', 'RDRAND ')}"


def _called(row: Any, *, with_backend: bool) -> str:
    feeder = "" if pd.isna(row.remedy) or row.remedy in _NO_FEEDERS else str(row.remedy)
    rdrand = "RDRAND not known" if pd.isna(row.rdrand) else _RDRAND.get(row.rdrand, f"RDRAND {row.rdrand}")
    return " + ".join(filter(None, [feeder, rdrand, _device(row, with_backend=with_backend)])) or NO_SOURCE


def _device(row: Any, *, with_backend: bool) -> str:
    if pd.isna(row.virtio_rng_backend):
        return ""
    name = f"virtio-rng from {row.virtio_rng_backend}" if with_backend else "virtio-rng"
    if pd.isna(row.virtio_rng_max_bytes) or pd.isna(row.virtio_rng_period_ms):
        return name
    size, period_s = bytes_text(float(row.virtio_rng_max_bytes)), float(row.virtio_rng_period_ms) / 1000
    return f"{name}, {size} a second" if period_s == 1 else f"{name}, {size} in {duration_text(period_s)}"
